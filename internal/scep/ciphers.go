package scep

import (
	"slices"
	"strings"

	"github.com/privyseal/privyseal/internal/cms"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// The values of Options.Ciphers.
const (
	aesGCM       = "aes-gcm"
	aesCBC       = "aes-cbc"
	tripleDESCBC = "3des-cbc"
	desCBC       = "des-cbc"
)

// Ciphers are the values of Options.Ciphers.
var Ciphers = []string{aesGCM, aesCBC, tripleDESCBC, desCBC}

var ciphersOf = map[string][]cms.Cipher{
	aesGCM:       {cms.AES128GCM, cms.AES192GCM, cms.AES256GCM},
	aesCBC:       {cms.AES128CBC, cms.AES192CBC, cms.AES256CBC},
	tripleDESCBC: {cms.TripleDES},
	desCBC:       {cms.DES},
}

// checkCiphers says what is wrong with the options that choose ciphers.
func (o *Options) checkCiphers() error {
	if o.Ciphers == nil {
		return nil
	}
	if len(o.Ciphers) == 0 {
		return strictyaml.Wrong("ciphers", "want one of %s", strings.Join(Ciphers, ", "))
	}
	if o.TripleDES || o.SingleDES {
		return strictyaml.Wrong("ciphers", "leave out triple_des and single_des, and name 3des-cbc or des-cbc here")
	}
	for i, name := range o.Ciphers {
		if ciphersOf[name] == nil || slices.Contains(o.Ciphers[:i], name) {
			return strictyaml.Wrong("ciphers", "%q: want some of %s, each once", name, strings.Join(Ciphers, ", "))
		}
	}
	return nil
}

// ciphers are those that the endpoint accepts. A content by any other is refused
// for the name that stands beside it, before the RA's key is used.
func (o *Options) ciphers() ([]cms.Cipher, error) {
	if err := o.checkCiphers(); err != nil {
		return nil, err
	}
	names := o.Ciphers
	if names == nil {
		names = []string{aesCBC, aesGCM}
		if o.TripleDES {
			names = append(names, tripleDESCBC)
		}
		if o.SingleDES {
			names = append(names, desCBC)
		}
	}
	var all []cms.Cipher
	for _, name := range names {
		all = append(all, ciphersOf[name]...)
	}
	return all, nil
}
