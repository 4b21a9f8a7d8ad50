package operator

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/opensslca"
	"github.com/privyseal/privyseal/internal/pki"
)

// importPage is how many records go into one call.
const importPage = 250

// importer sends a CA's records page by page.
type importer struct {
	cmd         *cobra.Command
	client      *api.Client
	id          string
	certificate string
	page        []api.ImportRecord
	fresh, old  int
}

func (i *importer) add(r api.ImportRecord) error {
	if i.page = append(i.page, r); len(i.page) < importPage {
		return nil
	}
	return i.flush()
}

func (i *importer) flush() error {
	if len(i.page) == 0 {
		return nil
	}
	done, err := api.ImportRecords.Call(i.cmd.Context(), i.client,
		api.IssuerRef{Issuer: i.id}, api.ImportPage{Certificate: i.certificate, Records: i.page})
	if err != nil {
		return fmt.Errorf("%s: %w", i.id, err)
	}
	i.fresh, i.old, i.page = i.fresh+done.Imported, i.old+done.Known, i.page[:0]
	return nil
}

// installed reports whether a CA has a record already.
func (i *importer) installed() (bool, error) {
	all, err := api.ListIssuers.Call(i.cmd.Context(), i.client, api.None{}, api.None{})
	if err != nil {
		return false, err
	}
	for _, is := range all.Issuers {
		if is.ID == i.id && is.Certificate != "" {
			return true, nil
		}
	}
	return false, nil
}

func (c *CLI) hierarchyImport() *cobra.Command {
	return c.command(verb{
		use: "import FILE", short: "take over the CAs of another server's export", args: cobra.ExactArgs(1),
		long: `Takes over the CAs that "privyseal hierarchy export" wrote, with every certificate
on record and what is revoked: OCSP and revocation lists go on, under higher CRL
numbers. The configuration has to declare each of them, under issuers with its key
in place, or under offline; names stay, for they are in certificates' URLs. A file
that is not whole is refused before anything is sent, and an import that broke off
is resumed by the same command.`,
		example: "  privyseal hierarchy import bulbs.jsonl",
		run: func(cmd *cobra.Command, client *api.Client, args []string) error {
			if err := eachLine(args[0], func(api.ExportLine) error { return nil }); err != nil {
				return err
			}
			var all []*importer
			var cas []api.ExportCA
			skip := false
			err := eachLine(args[0], func(l api.ExportLine) error {
				switch {
				case l.CA != nil:
					i := &importer{cmd: cmd, client: client, id: l.CA.ID, certificate: l.CA.Certificate}
					all, cas = append(all, i), append(cas, *l.CA)
					if n := len(all); n > 1 {
						if err := all[n-2].flush(); err != nil {
							return err
						}
					}
					var err error
					skip, err = i.installed()
					return err
				case l.Record != nil && !skip:
					return all[len(all)-1].add(*l.Record)
				}
				return nil
			})
			if err != nil {
				return err
			}
			if err := all[len(all)-1].flush(); err != nil {
				return err
			}
			return adoptAll(cmd, client, cas, all)
		},
	})
}

// adoptAll puts the CAs in force, those above first, and publishes the lists of
// those whose keys are elsewhere.
func adoptAll(cmd *cobra.Command, client *api.Client, cas []api.ExportCA, sent []*importer) error {
	for n, ca := range cas {
		answer, err := api.AdoptIssuer.Call(cmd.Context(), client, api.IssuerRef{Issuer: ca.ID}, api.Adoption{
			Certificate: ca.Certificate, LastCRLNumber: ca.LastCRLNumber, CRLShards: ca.CRLShards,
		})
		if err != nil {
			return fmt.Errorf("%s: %w", ca.ID, err)
		}
		done, again := answer.Done()
		cmd.PrintErrf("%s: %d records entered, %d were here\n", ca.ID, sent[n].fresh, sent[n].old)
		if ca.Offline && len(ca.CRL) > 0 {
			var p *api.Problem
			list := api.CRLImport{CRL: api.CRLText(ca.CRL)}
			_, err := api.ImportCRL.Call(cmd.Context(), client, api.None{}, list)
			if err != nil && !(errors.As(err, &p) && p.Refused()) {
				return fmt.Errorf("list of %s: %w", ca.ID, err)
			} else if err != nil {
				cmd.PrintErrf("warning: list of %s: %s\n", ca.ID, err)
			}
		}
		if err := printInstalled(cmd, done, again); err != nil {
			return err
		}
	}
	return nil
}

// maxExportLine bounds a line of an export: a list of a million entries fits.
const maxExportLine = 256 << 20

// eachLine reads an export and checks that it is whole: its header comes first, its
// end last and counts what is there.
func eachLine(path string, do func(api.ExportLine) error) error {
	f, err := os.Open(path)
	if err != nil {
		return usagef("%s", err)
	}
	defer func() { _ = f.Close() }()
	bad := func(n int, why string) error { return fmt.Errorf("%s line %d: %s", path, n, why) }
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxExportLine)
	n, count, ended := 0, api.ExportEnd{}, false
	for lines.Scan() {
		n++
		var l api.ExportLine
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.DisallowUnknownFields()
		if err := d.Decode(&l); err != nil {
			return bad(n, err.Error())
		}
		switch {
		case ended:
			return bad(n, "something follows the end")
		case (n == 1) != (l.Header != nil):
			return bad(n, "want one header, in the first line")
		case l.Header != nil && l.Header.Format != "privyseal-hierarchy/1":
			return bad(n, "format "+l.Header.Format+" is not known")
		case l.CA != nil:
			count.CAs++
		case l.Record != nil && count.CAs == 0:
			return bad(n, "a record before its CA")
		case l.Record != nil:
			count.Records++
		case l.End != nil:
			if ended = true; *l.End != count || count.CAs == 0 {
				return bad(n, fmt.Sprintf("the end counts %d CAs and %d records, and there are %d and %d", l.End.CAs,
					l.End.Records, count.CAs, count.Records))
			}
		}
		if err := do(l); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if !ended {
		return fmt.Errorf("%s: it has no end: the export broke off", path)
	}
	return nil
}

func (c *CLI) importGroup() *cobra.Command {
	return group("import", "take over CAs that other programs ran", c.importOpenSSL())
}

func (c *CLI) importOpenSSL() *cobra.Command {
	var from opensslca.Source
	var id, chain, passphrase string
	var keyInPlace bool
	var asJSON *bool
	return c.command(verb{
		use: "openssl-ca --dir DIR --issuer NAME", short: "take over an issuing CA that was run with openssl ca",
		long: `Takes over an issuing CA from its folder: certificate, key, index.txt, crlnumber and
the certificates that it has issued. The configuration declares the issuer; its key
is written there, encrypted under the configured passphrase. From then on its
certificates can be revoked here, OCSP answers for them, and lists go on above the
last number. The folder stays as it is: sign nothing from it any more.

The key of a self-signed CA is refused: privyseal-ceremony import openssl-ca takes
it. With --key-in-place the key is in its token already and is not read.`,
		example: `  privyseal import openssl-ca --dir /etc/pki/issuing-ca --issuer web-old --chain /etc/pki/root.crt --passphrase file:/run/pass`,
		flags: func(cmd *cobra.Command) {
			f := cmd.Flags()
			f.StringVar(&from.Dir, "dir", "", "folder of the CA (required)")
			f.StringVar(&from.Config, "config", "", "its openssl.cnf; the one in the folder if left out")
			f.StringVar(&from.Section, "section", "", "the CA's section in it; what default_ca names if left out")
			f.StringVar(&from.Key, "key", "", "the key's file, instead of what the configuration names")
			f.StringVar(&from.Certificate, "certificate", "", "the certificate's file, likewise")
			f.StringVar(&id, "issuer", "", "the issuer that the configuration declares (required)")
			f.StringVar(&chain, "chain", "", "PEM file of the CAs above it, root last, as far as they are not "+
				"installed")
			f.StringVar(&passphrase, "passphrase", "", "where the passphrase of the key is: "+files.References)
			f.BoolVar(&keyInPlace, "key-in-place", false, "the key is where the configuration says already")
			asJSON = jsonFlag(cmd)
		},
		run: func(cmd *cobra.Command, client *api.Client, _ []string) error {
			if from.Dir == "" || id == "" {
				return usagef("%s: --dir and --issuer are required; see --help", cmd.CommandPath())
			}
			from.Secret = c.secret(passphrase)
			folder, err := opensslca.Read(from)
			if err != nil {
				return err
			}
			a, err := adoption(cmd, folder, chain, keyInPlace)
			if err != nil {
				return err
			}
			for _, note := range folder.Notes {
				cmd.PrintErrln("note:", note)
			}
			i := &importer{cmd: cmd, client: client, id: id, certificate: string(pki.EncodeChain(folder.Chain[0].Raw))}
			there, err := i.installed()
			if err == nil && !there {
				err = i.openssl(folder)
			}
			if err != nil {
				return err
			}
			answer, err := api.AdoptIssuer.Call(cmd.Context(), client, api.IssuerRef{Issuer: id}, a)
			if err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
			cmd.PrintErrf("%s: %d records entered, %d were here\n", id, i.fresh, i.old)
			done, again := answer.Done()
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), done)
			}
			return printInstalled(cmd, done, again)
		},
	})
}

// secret reads a passphrase by reference.
func (c *CLI) secret(ref string) keys.Secret {
	return func() ([]byte, error) {
		if ref == "" {
			return nil, errors.New("the key is encrypted: say where its passphrase is with --passphrase " + files.References)
		}
		return files.ReadReference(ref, "", func(name string) (string, bool) {
			v := c.getenv(name)
			return v, v != ""
		})
	}
}

// adoption is what the server needs of the folder to put the CA in force. The key
// travels encrypted under a passphrase of its own.
func adoption(cmd *cobra.Command, f *opensslca.Folder, chain string, keyInPlace bool) (api.Adoption, error) {
	var a api.Adoption
	for _, c := range f.Chain {
		a.Certificate += string(pki.EncodeChain(c.Raw))
	}
	if chain != "" {
		text, err := readSmall(cmd, chain)
		if err != nil {
			return a, err
		}
		a.Certificate += string(text)
	}
	if f.CRLNumber != nil && f.CRLNumber.Sign() > 0 { // the number of the next list
		a.LastCRLNumber = new(big.Int).Sub(f.CRLNumber, big.NewInt(1)).String()
	}
	if keyInPlace {
		return a, nil
	}
	var random [20]byte
	_, _ = rand.Read(random[:]) // never fails
	a.Passphrase = hex.EncodeToString(random[:])
	text, err := keys.Encrypt(f.Key, func() ([]byte, error) { return []byte(a.Passphrase), nil })
	a.PrivateKey = string(text)
	return a, err
}

// openssl sends what the index has, with the certificates that are in the folder.
func (i *importer) openssl(f *opensslca.Folder) error {
	ders := map[pki.Serial][]byte{}
	for _, c := range f.Issued {
		ders[pki.SerialFromBig(c.SerialNumber)] = c.Raw
	}
	for _, e := range f.Index {
		r := api.ImportRecord{Serial: string(e.Serial), Certificate: ders[e.Serial], Subject: e.Subject,
			NotAfter: e.NotAfter}
		if v := e.Revoked; v != nil {
			r.Revocation = api.Revocation{Reason: v.Reason.String(), RevokedAt: v.At}
			if v.InvalidityAt != nil {
				r.Revocation.InvalidityAt = *v.InvalidityAt
			}
		}
		if err := i.add(r); err != nil {
			return err
		}
	}
	return i.flush()
}
