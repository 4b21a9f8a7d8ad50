package config

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/hierarchy"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/ocsp"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// OCSP is how the status of an issuer's certificates is answered.
type OCSP struct {
	// Mode is presigned (the default): answers are signed at first use, kept and
	// signed anew at half of their life, and a nonce is ignored; or live: a request
	// with a nonce is answered by a signature of its own.
	Mode string `yaml:"mode,omitempty" jsonschema:"enum=presigned,enum=live"`
	// Validity is the time from thisUpdate to nextUpdate: 24 hours by default.
	Validity time.Duration `yaml:"validity,omitempty"`
	// Unknown is what is said of a serial that was never issued: unauthorized (the
	// default), an unsigned error; unknown; or extended-revoked, which is revoked
	// since 1970 with the extension of RFC 6960, section 4.4.8.
	Unknown string `yaml:"unknown,omitempty" jsonschema:"enum=unauthorized,enum=unknown,enum=extended-revoked"`
	// Signer is delegated (the default): each node has a certificate of its own,
	// of profile ocsp-signing, renewed in time, whose key is in State.Dir; or
	// issuer: the CA's own key signs.
	Signer string `yaml:"signer,omitempty" jsonschema:"enum=delegated,enum=issuer"`
	// Key says where the delegate's key is, instead of in State.Dir: pkcs11:token=…;
	// object=…, made at first need. It stays when the certificate is renewed, and
	// nodes that share the token share it.
	Key keys.Ref `yaml:"key,omitempty"`
	// Passphrase refers to the token's PIN.
	Passphrase Reference `yaml:"passphrase,omitempty"`
	// ArchiveCutoff is how long records of expired certificates are kept. Answers
	// about expired certificates say so; without it they do not.
	ArchiveCutoff time.Duration `yaml:"archive_cutoff,omitempty"`
	// Outage is how long kept answers are given while the database does not
	// answer, and another node may have recorded a revocation. 0 gives tryLater
	// after one second.
	Outage time.Duration `yaml:"outage,omitempty"`
	// CacheMiB is how much memory answers are kept in, in MiB: 100 by default, which
	// is about 50000 answers of 2 KiB. At most 65536.
	CacheMiB int `yaml:"cache_mib,omitempty"`
	// Cache is what went before cache_mib: how many answers of 2 KiB are kept.
	Cache int `yaml:"cache,omitempty"`
}

// OfflineOCSP answers for the certificates of a CA whose key is elsewhere.
type OfflineOCSP struct {
	// Certificate is a PEM file with a responder certificate that the CA signed:
	// extended key usage OCSPSigning, id-pkix-ocsp-nocheck.
	Certificate string `yaml:"certificate" path:"file"`
	// Key says where its private key is: file:PATH or
	// credential:NAME, an encrypted PKCS#8 file.
	Key keys.Ref `yaml:"key" path:"key"`
	// Passphrase refers to the passphrase of the key.
	Passphrase Reference `yaml:"passphrase"`
	// Mode, Validity and Unknown are as in an issuer's ocsp.
	Mode     string        `yaml:"mode,omitempty" jsonschema:"enum=presigned,enum=live"`
	Validity time.Duration `yaml:"validity,omitempty"`
	Unknown  string        `yaml:"unknown,omitempty" jsonschema:"enum=unauthorized,enum=unknown,enum=extended-revoked"`
}

const (
	SignerDelegated = "delegated"
	SignerIssuer    = "issuer"

	defaultOCSPValidity = 24 * time.Hour
	defaultOCSPCacheMiB = 100
	maxOCSPCacheMiB     = 1 << 16
	answersPerMiB       = 512
)

// complete fills in the defaults.
func (o *OCSP) complete() {
	for field, value := range map[*string]string{
		&o.Mode: string(ocsp.Presigned), &o.Unknown: string(ocsp.UnknownUnauthorized), &o.Signer: SignerDelegated,
	} {
		if *field == "" {
			*field = value
		}
	}
	if o.Validity == 0 {
		o.Validity = defaultOCSPValidity
	}
	switch {
	case o.CacheMiB != 0:
	case o.Cache > 0:
		o.CacheMiB = min(o.Cache/answersPerMiB+1, maxOCSPCacheMiB)
	default:
		o.CacheMiB = defaultOCSPCacheMiB
	}
}

// Policy is how the responder answers.
func (o *OCSP) Policy() ocsp.Policy {
	return ocsp.Policy{
		Mode: ocsp.Mode(o.Mode), Validity: o.Validity, Unknown: ocsp.UnknownPolicy(o.Unknown),
		ArchiveCutoff: o.ArchiveCutoff, Outage: o.Outage, Cache: o.CacheMiB << 20,
	}
}

// Like returns the fields that an offline CA's responder shares.
func (o *OfflineOCSP) Like() OCSP {
	c := OCSP{Mode: o.Mode, Validity: o.Validity, Unknown: o.Unknown}
	c.complete()
	return c
}

func (o *OfflineOCSP) complete() {
	defaults := o.Like()
	o.Mode, o.Validity, o.Unknown = defaults.Mode, defaults.Validity, defaults.Unknown
}

// keepsKeys reports whether the server keeps keys of its own in State.Dir: of a
// listener, or of a delegate that signs OCSP responses.
func (f *File) keepsKeys() bool {
	return f.Listeners.HTTPS.TLS.Issuer != "" || f.Listeners.EST.TLS.Issuer != "" ||
		f.Listeners.HTTPSAdmin.Addr != "" ||
		slices.ContainsFunc(f.Issuers, func(i Issuer) bool { return i.OCSP.Signer == SignerDelegated })
}

func (f *File) checkOCSP(d *strictyaml.Document) {
	for i, is := range f.Issuers {
		key := fmt.Sprintf("issuers[%d].ocsp", i)
		is.OCSP.check(d, key)
		d.Check(key, strictyaml.OneOf("signer", is.OCSP.Signer, SignerDelegated, SignerIssuer))
		f.checkServiceKey(d, key+".key", is.OCSP.Key, key+".passphrase", is.OCSP.Passphrase)
		if chain, err := f.Chain(is.Certificate); err == nil { // otherwise it is reported
			checkResponder(d, key, is, chain)
		}
	}
	for i, o := range f.Offline {
		if o.OCSP == nil {
			continue
		}
		key := fmt.Sprintf("offline[%d].ocsp", i)
		like := o.OCSP.Like()
		like.check(d, key)
		f.checkKey(d, key+".key", o.OCSP.Key)
		if _, err := o.OCSP.Passphrase.Read(f.Dir); err != nil {
			d.Report(key+".passphrase", "%v", err)
		}
		if _, err := f.Chain(o.OCSP.Certificate); err != nil {
			d.Report(key+".certificate", "%v", err)
		}
	}
}

func (o *OCSP) check(d *strictyaml.Document, key string) {
	d.Check(key, strictyaml.OneOf("mode", o.Mode, string(ocsp.Presigned), string(ocsp.Live)))
	d.Check(key, strictyaml.OneOf("unknown", o.Unknown,
		string(ocsp.UnknownUnauthorized), string(ocsp.UnknownUnknown), string(ocsp.UnknownRevoked)))
	if o.Validity < time.Minute || o.Validity > 30*24*time.Hour {
		d.Report(key+".validity", "%s: want from 1m to 720h", o.Validity)
	}
	if o.ArchiveCutoff < 0 || o.Outage < 0 || o.Cache < 0 {
		d.Report(key, "archive_cutoff, outage and cache cannot be negative")
	}
	if o.CacheMiB < 1 || o.CacheMiB > maxOCSPCacheMiB {
		d.Report(key+".cache_mib", "%d: want from 1 to %d", o.CacheMiB, maxOCSPCacheMiB)
	}
}

var oidOCSPSigning = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 9}

// checkResponder refuses a signer that relying parties would not accept: a
// delegate below a CA that may not certify one (rule X8), or a CA whose own key
// may not sign.
func checkResponder(d *strictyaml.Document, key string, is Issuer, chain []*x509.Certificate) {
	ca := chain[0]
	switch is.OCSP.Signer {
	case SignerDelegated:
		if err := hierarchy.CheckUsages(chain, []asn1.ObjectIdentifier{oidOCSPSigning}); err != nil {
			d.Report(key+".signer", "issuer %s cannot certify a responder: %s; signer: issuer lets its own key sign",
				is.ID, fault.Text(err))
		}
	case SignerIssuer:
		// None is every use (RFC 5280, section 4.2.1.3).
		if ca.KeyUsage != 0 && ca.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
			d.Report(key+".signer", "the key usage of issuer %s lacks digitalSignature: want signer: delegated", is.ID)
		}
	}
}
