package tree

import (
	"fmt"

	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// Ceremony is what people have to do offline for one root: a file for
// privyseal-ceremony, and the requests that go with it.
type Ceremony struct {
	Root     string
	File     string   // text of ceremony.yaml
	Requests []string // ids of the issuers whose requests it names, each ID.csr beside it
}

// The ceremony's file, as far as a plan writes it.
type ceremonyFile struct {
	Name   string        `yaml:"name"`
	Reason string        `yaml:"reason,omitempty"`
	Out    string        `yaml:"out"`
	CAs    []ceremonyCA  `yaml:"cas"`
	Acts   []ceremonyAct `yaml:"acts"`
}

type ceremonyCA struct {
	Name      string  `yaml:"name"`
	Quorum    *Quorum `yaml:"quorum,omitempty"`
	CRL       string  `yaml:"crl"`
	CAIssuers string  `yaml:"ca_issuers"`
}

type ceremonyAct struct {
	Root   *rootAct `yaml:"root,omitempty"`
	SignCA *signAct `yaml:"sign-ca,omitempty"`
	CRL    *listAct `yaml:"crl,omitempty"`
}

type rootAct struct {
	CA              string                   `yaml:"ca"`
	Subject         string                   `yaml:"subject"`
	Algorithm       string                   `yaml:"algorithm"`
	Years           int                      `yaml:"years"`
	NameConstraints *profile.NameConstraints `yaml:"name_constraints,omitempty"`
}

type signAct struct {
	CA              string                   `yaml:"ca"`
	CSR             string                   `yaml:"csr,omitempty"`
	New             string                   `yaml:"new,omitempty"`
	Subject         string                   `yaml:"subject,omitempty"`
	Algorithm       string                   `yaml:"algorithm,omitempty"`
	Years           int                      `yaml:"years"`
	PathLen         int                      `yaml:"path_len,omitempty"`
	ExtKeyUsage     []string                 `yaml:"ext_key_usage,omitempty"`
	Policies        []string                 `yaml:"policies,omitempty"`
	NameConstraints *profile.NameConstraints `yaml:"name_constraints,omitempty"`
}

type listAct struct {
	CA string `yaml:"ca"`
}

// ceremonies writes the file of each root under which something is to be signed
// offline. A CA whose request is not made yet waits for the next one.
func (w *planner) ceremonies() error {
	for _, root := range w.plan.Steps {
		if root.Root != root.CA.ID && w.inFile(root.Root) {
			continue
		}
		if c := w.ceremony(root.Root); c != nil && !w.written(root.Root) {
			text, err := strictyaml.Marshal(c.file)
			if err != nil {
				return fmt.Errorf("write ceremony: %w", err)
			}
			head := "# A ceremony for the hierarchy " + w.spec.Name +
				": review every line, say who is present, then\n" +
				"#   privyseal-ceremony run ceremony.yaml\n# in the folder of the CAs, with the requests beside this " +
				"file.\n"
			w.plan.Ceremonies = append(w.plan.Ceremonies,
				Ceremony{Root: root.Root, File: head + string(text), Requests: c.requests})
		}
	}
	return nil
}

func (w *planner) inFile(id string) bool { _, ok := w.at[id]; return ok }

func (w *planner) written(root string) bool {
	for _, c := range w.plan.Ceremonies {
		if c.Root == root {
			return true
		}
	}
	return false
}

// inPlace counts the CAs of a root that are installed.
func (w *planner) inPlace(root string) int {
	n := 0
	for _, s := range w.plan.Steps {
		if s.Root == root && s.State == InPlace {
			n++
		}
	}
	return n
}

// drafted is a ceremony in the making.
type drafted struct {
	file     ceremonyFile
	requests []string
	cas      map[string]bool
}

func (w *planner) ceremony(root string) *drafted {
	d := &drafted{cas: map[string]bool{}}
	d.file.Name = w.spec.Name + ": " + root
	d.file.Reason, d.file.Out = w.spec.Reason, "out"
	if done := w.inPlace(root); done > 0 { // a later ceremony fills a folder of its own
		d.file.Out = fmt.Sprintf("out-%d", done+1)
	}
	for _, s := range w.plan.Steps {
		if s.Root != root || s.State != PendingCeremony {
			continue
		}
		c := s.CA
		if c.Parent == "" {
			d.act(w, c.ID, ceremonyAct{Root: &rootAct{c.ID, c.Subject, c.Algorithm, c.Years, c.NameConstraints}})
			continue
		}
		act := &signAct{
			CA: c.Parent, Years: c.Years, PathLen: max(c.pathLen(), 0), ExtKeyUsage: c.ExtKeyUsage,
			Policies: c.Policies, NameConstraints: c.NameConstraints,
		}
		if c.Key == keyOffline {
			act.New, act.Subject, act.Algorithm = c.ID, c.Subject, c.Algorithm
		} else {
			act.CSR = c.ID + ".csr"
			d.requests = append(d.requests, c.ID)
		}
		d.act(w, c.Parent, ceremonyAct{SignCA: act})
		if act.New != "" {
			d.name(w, c.ID)
		}
	}
	if len(d.file.Acts) == 0 {
		return nil
	}
	for _, ca := range d.file.CAs {
		d.file.Acts = append(d.file.Acts, ceremonyAct{CRL: &listAct{ca.Name}})
	}
	return d
}

func (d *drafted) act(w *planner, ca string, act ceremonyAct) {
	d.name(w, ca)
	d.file.Acts = append(d.file.Acts, act)
}

// name lists an offline CA that acts or comes into being.
func (d *drafted) name(w *planner, id string) {
	if d.cas[id] {
		return
	}
	d.cas[id] = true
	base := w.PublicHTTP()
	d.file.CAs = append(d.file.CAs, ceremonyCA{Name: id, Quorum: w.spec.Quorum, CRL: base + "/crl/" + id + ".crl",
		CAIssuers: base + "/issuers/" + id + ".cer"})
}
