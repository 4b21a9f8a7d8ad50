package ceremony

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/quorum"
	"github.com/privyseal/privyseal/internal/strictyaml"
	"github.com/privyseal/privyseal/internal/transcript"
)

// File is one ceremony as it was written down and reviewed: nothing that is
// signed comes from anywhere else but the requests that it names. Its comments
// are the manual. Paths are relative to the folder of the file.
type File struct {
	// Name is what the ceremony is called in the transcript and on the sheets.
	Name string `yaml:"name"`
	// Reason is why it is held. One without is flagged in the transcript.
	Reason string `yaml:"reason,omitempty"`
	// Present are the people in the room.
	Present []Person `yaml:"present,omitempty"`
	// Out is the folder of what leaves the machine, which must not hold another
	// ceremony's files. Default: out.
	Out string `yaml:"out,omitempty"`
	// ToolHash is the SHA-256 of the program that was reviewed; another one is
	// refused. Without it the transcript warns that nobody compared.
	ToolHash string `yaml:"tool_sha256,omitempty"`
	// CAs are the offline CAs that act, or come into being.
	CAs []Authority `yaml:"cas"`
	// Acts are performed in this order.
	Acts []Act `yaml:"acts"`
}

// Person is somebody who is there. With a key, the person signs the transcript.
type Person struct {
	Name string   `yaml:"name"`
	Key  keys.Ref `yaml:"key,omitempty"`
}

// Authority is an offline CA.
type Authority struct {
	Name string `yaml:"name"` // what acts call it: small letters, digits and hyphens
	// Folder holds its certificates, lists, index and key file. Default: its name.
	Folder string `yaml:"folder,omitempty"`
	// Key is "pkcs11:token=…;object=…?module-path=…" for a key in a token. Default:
	// the encrypted file private/ca.key in the folder.
	Key keys.Ref `yaml:"key,omitempty"`
	// Quorum divides what opens the key file among custodians when the key is made.
	// Without it a passphrase is asked for, or a token's PIN.
	Quorum *Quorum `yaml:"quorum,omitempty"`
	// NamePolicy is what the names of the CAs that it signs must have in common with
	// its own. Default: match C, ST, O; supplied CN; optional OU.
	NamePolicy calaw.NamePolicy `yaml:"name_policy,omitempty"`
	// CRL, CAIssuers and OCSP are the http URLs of its list (DER), its certificate
	// (DER) and its responder, as they stand in what it signs.
	CRL       string `yaml:"crl,omitempty"`
	CAIssuers string `yaml:"ca_issuers,omitempty"`
	OCSP      string `yaml:"ocsp,omitempty"`
}

// Quorum is how many of which custodians open a key.
type Quorum struct {
	Need       int      `yaml:"need"`
	Custodians []string `yaml:"custodians"`
}

func (a *Authority) locations() issuer.Locations {
	return issuer.Locations{CRL: a.CRL, CAIssuers: a.CAIssuers, OCSP: a.OCSP}
}

// ReadFile reads a ceremony's file, strictly, and checks what can be checked
// without the CAs' folders.
func ReadFile(path string) (*File, []byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read ceremony: %w", err)
	}
	f, err := decodeFile(path, text)
	if err != nil {
		return nil, nil, err
	}
	return f, text, nil
}

// DecodeFile reads the text of a ceremony's file. An unknown key is an error that
// names its place; an act that is none of the nine says which there are.
func DecodeFile(text []byte) (*File, error) { return decodeFile("", text) }

func decodeFile(path string, text []byte) (*File, error) {
	f := &File{}
	doc := strictyaml.Decode(path, text, f)
	if err := doc.Err(); err != nil {
		return nil, explainActs(err)
	}
	for i, act := range f.Acts {
		if act.count() != 1 {
			doc.Report(fmt.Sprintf("acts[%d]", i), actForm)
		}
	}
	if err := doc.Err(); err != nil {
		return nil, err
	}
	if err := f.check(); err != nil && path != "" {
		return nil, fmt.Errorf("%s: %w", path, err)
	} else if err != nil {
		return nil, err
	}
	return f, nil
}

const actForm = "an act has the form \"- crl: {ca: root}\""

var inActs = regexp.MustCompile(`^acts\[\d+\](?:\.([^.\[]+))?$`)

// explainActs says of whatever else an offline CA is asked to do that it is no act.
func explainActs(err error) error {
	var problems strictyaml.Problems
	if !errors.As(err, &problems) {
		return err
	}
	for i := range problems {
		m := inActs.FindStringSubmatch(problems[i].Key)
		switch {
		case m == nil || slices.Contains(ActNames, m[1]):
		case m[1] == "":
			problems[i].What = actForm
		default:
			problems[i].What = fmt.Sprintf(
				"an offline CA does not do %q: its acts are %s. Certificates of end entities are issued online",
				m[1], strings.Join(ActNames, ", "))
			return refuse("act", "%w", problems[i:i+1])
		}
	}
	return problems
}

var authorityName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)

// check finds the mistakes that need no folder to be seen.
func (f *File) check() error {
	if f.Name == "" {
		return errors.New("name: say what the ceremony is called")
	}
	if len(f.Acts) == 0 {
		return errors.New("acts: there are none")
	}
	if err := f.checkPresent(); err != nil {
		return err
	}
	folders := map[string]string{}
	for i := range f.CAs {
		a := &f.CAs[i]
		if err := a.check(); err != nil {
			return fmt.Errorf("cas: %w", err)
		}
		if first, err := f.authority(a.Name); err != nil || first != a {
			return fmt.Errorf("cas: %s is there twice", a.Name)
		}
		if other, taken := folders[a.folder()]; taken {
			return fmt.Errorf("cas: %s and %s have the same folder", other, a.Name)
		}
		folders[a.folder()] = a.Name
	}
	for n, act := range f.Acts {
		if err := f.checkAct(n, act); err != nil {
			return fmt.Errorf("act %d: %w", n+1, err)
		}
	}
	return f.checkNames()
}

// checkPresent refuses names that the transcript cannot tell apart.
func (f *File) checkPresent() error {
	named := map[string]bool{"": true, transcript.CASigner: true}
	for _, p := range f.Present {
		if named[p.Name] {
			return fmt.Errorf("present: %q is there twice, or is no name of a person", p.Name)
		}
		named[p.Name] = true
	}
	return nil
}

func (a *Authority) folder() string {
	if a.Folder == "" {
		return a.Name
	}
	return filepath.Clean(a.Folder)
}

func (a *Authority) check() error {
	if !authorityName.MatchString(a.Name) {
		return fmt.Errorf("name %q: want small letters, digits and hyphens", a.Name)
	}
	if a.Key == "" {
		return a.Quorum.check()
	}
	if err := a.Key.Check(); err != nil {
		return fmt.Errorf("%s: %w", a.Name, err)
	}
	if strings.HasPrefix(string(a.Key), "credential:") {
		return fmt.Errorf("%s: %s: credentials of systemd are for servers; leave key out for the folder's key file",
			a.Name, a.Key)
	}
	if a.Quorum != nil {
		return fmt.Errorf("%s: a quorum divides what opens the key file of the folder; who may use a token is the "+
			"token's own affair", a.Name)
	}
	return nil
}

func (q *Quorum) check() error {
	if q == nil {
		return nil
	}
	named := map[string]bool{}
	for _, c := range q.Custodians {
		if c == "" || named[c] || strings.ContainsFunc(c, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return fmt.Errorf("quorum: custodian %q is there twice or has no name that prints", c)
		}
		named[c] = true
	}
	if len(q.Custodians) > quorum.MaxShares {
		return fmt.Errorf("quorum: %d custodians: want at most %d", len(q.Custodians), quorum.MaxShares)
	}
	if q.Need < 2 || len(q.Custodians) < q.Need { // G1-26
		return fmt.Errorf("quorum: %d of %d custodians: want at least 2, so that nobody opens the key alone", q.Need,
			len(q.Custodians))
	}
	return nil
}

// authority returns the CA of the given name.
func (f *File) authority(name string) (*Authority, error) {
	for i := range f.CAs {
		if f.CAs[i].Name == name {
			return &f.CAs[i], nil
		}
	}
	return nil, fmt.Errorf("there is no CA %q under cas", name)
}
