// Package transcript keeps what an offline CA did: one file of chained records
// that begins with the first ceremony and is only ever appended to. A record
// holds hashes and names, never a key, share or passphrase.
//
// The file is one JSON object per line. Three kinds of record are in it: a
// ceremony begins (Begin: tool, configuration, reason, custodians), an act was
// done (Append: hashes of request, certificate and list), a head is signed (Sign:
// the CA's key and, where they have them, the custodians' keys). Each record
// holds the hash of the one before, so a signature covers all that was before it,
// ceremonies of former years with it; a ceremony that was interrupted is covered
// by the next one's signature.
//
// Encoding: a line is the record as encoding/json writes it, members in the order
// of the Go types here, empty ones left out, no space, times in UTC with whole
// seconds, <, > and & not escaped. Parse refuses every other spelling, so a
// record has one encoding. "hash" is SHA-256 in hexadecimal over the line's
// object without its "hash" member; "prev" is the hash of the record before, 64
// zeros in the first.
//
// Verify names the first bad record. Find and Match relate a request and a
// certificate to an act; the server asks Match when it installs a certificate.
// The package has no clock, reads no file and knows no network.
package transcript

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Record is one line. One of Ceremony, Act and Signatures is there.
type Record struct {
	Seq        int         `json:"seq"`  // 1, 2, …
	Prev       string      `json:"prev"` // hash of the record before
	Time       time.Time   `json:"time"` // never before that of the record before
	Ceremony   *Ceremony   `json:"ceremony,omitempty"`
	Act        *Act        `json:"act,omitempty"`
	Signatures []Signature `json:"signatures,omitempty"`
	Hash       string      `json:"hash,omitempty"` // of this record without this member
}

// Ceremony opens a ceremony. Hashes are SHA-256 in lower-case hexadecimal.
type Ceremony struct {
	Name          string      `json:"name"`
	CA            string      `json:"ca,omitempty"` // the CA's name
	Reason        string      `json:"reason,omitempty"`
	Tool          string      `json:"tool"`                 // program and version
	ToolHash      string      `json:"tool_sha256"`          // of the program's file
	Configuration string      `json:"configuration"`        // its file's name
	ConfigHash    string      `json:"config_sha256"`        // of the reviewed file
	Custodians    []Custodian `json:"custodians,omitempty"` // who is there
	Warnings      []string    `json:"warnings,omitempty"`   // what preflight found and the custodians accepted
}

// Custodian is a person who is there.
type Custodian struct {
	Name string `json:"name"`
	Key  []byte `json:"key,omitempty"` // SubjectPublicKeyInfo, if the custodian signs too
}

// Act is one thing done, or tried.
type Act struct {
	Name        string   `json:"name"` // root, sign-ca, crl, …
	Reason      string   `json:"reason,omitempty"`
	Subject     string   `json:"subject,omitempty"`            // RFC 4514
	Issuer      string   `json:"issuer,omitempty"`             // RFC 4514
	Serial      string   `json:"serial,omitempty"`             // lower-case hexadecimal
	Key         string   `json:"key_sha256,omitempty"`         // of the certified SubjectPublicKeyInfo
	Request     string   `json:"request_sha256,omitempty"`     // of the PKCS#10's DER
	Certificate string   `json:"certificate_sha256,omitempty"` // of its DER
	CRL         string   `json:"crl_sha256,omitempty"`         // of its DER
	CRLNumber   string   `json:"crl_number,omitempty"`         // decimal
	Quorum      string   `json:"quorum,omitempty"`             // id of the set of shares that opened the key
	Shares      []int    `json:"shares,omitempty"`             // which of them
	Custodians  []string `json:"custodians,omitempty"`         // who confirmed this act
	Note        string   `json:"note,omitempty"`
	Failed      string   `json:"failed,omitempty"` // why it was not done; empty if it was
}

// Limits of what Parse reads and Append writes.
const (
	maxSize    = 16 << 20
	maxRecords = 100_000
	maxLine    = 64 << 10
)

var zeros = strings.Repeat("0", 2*sha256.Size)

// Transcript is a parsed file. The zero value is one without records.
type Transcript struct {
	records []Record
	text    []byte
}

// Records returns the records in order. They are not to be changed.
func (t *Transcript) Records() []Record { return t.records }

// Bytes returns the file's text.
func (t *Transcript) Bytes() []byte { return bytes.Clone(t.text) }

// Head returns the hash of the last record, 64 zeros if there is none.
func (t *Transcript) Head() string {
	if len(t.records) == 0 {
		return zeros
	}
	return t.records[len(t.records)-1].Hash
}

// Last returns the time of the last record, zero if there is none.
func (t *Transcript) Last() time.Time {
	if len(t.records) == 0 {
		return time.Time{}
	}
	return t.records[len(t.records)-1].Time
}

// Begin appends the opening of a ceremony.
func (t *Transcript) Begin(c Ceremony, now time.Time) error {
	if err := t.append(Record{Time: now, Ceremony: &c}); err != nil {
		return fmt.Errorf("begin ceremony: %w", err)
	}
	return nil
}

// Append appends an act to the ceremony that was begun last and is not signed.
func (t *Transcript) Append(a Act, now time.Time) error {
	if !t.open() {
		return fmt.Errorf("record act %s: no ceremony was begun", a.Name)
	}
	if err := t.append(Record{Time: now, Act: &a}); err != nil {
		return fmt.Errorf("record act %s: %w", a.Name, err)
	}
	return nil
}

// open reports whether a ceremony was begun since the last signature.
func (t *Transcript) open() bool {
	n := len(t.records)
	return n > 0 && t.records[n-1].Signatures == nil
}

func (t *Transcript) append(r Record) error {
	r.Seq, r.Prev, r.Time = len(t.records)+1, t.Head(), r.Time.UTC().Truncate(time.Second)
	if r.Time.Before(t.Last()) {
		return fmt.Errorf("the clock says %s, which is before the last record of %s",
			r.Time.Format(time.RFC3339), t.Last().Format(time.RFC3339))
	}
	if err := r.check(); err != nil {
		return err
	}
	sum, err := r.sum()
	if err != nil {
		return err
	}
	r.Hash = sum
	line, err := r.line()
	switch {
	case err != nil:
		return err
	case len(line) > maxLine:
		return fmt.Errorf("a record of %d octets: at most %d fit", len(line), maxLine)
	case len(t.text)+len(line) > maxSize || len(t.records) == maxRecords:
		return errors.New("the transcript is full")
	}
	// What is kept is what a reader of the line would see, not what the caller
	// may still change.
	kept, err := parseLine(bytes.TrimSuffix(line, []byte("\n")))
	if err != nil {
		return err
	}
	t.records, t.text = append(t.records, kept), append(t.text, line...)
	return nil
}

// line returns the record's encoding with the newline.
func (r Record) line() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(r); err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return b.Bytes(), nil
}

// sum returns the record's hash.
func (r Record) sum() (string, error) {
	r.Hash = ""
	line, err := r.line()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(bytes.TrimSuffix(line, []byte("\n")))
	return hex.EncodeToString(sum[:]), nil
}

// Parse reads a transcript. It checks form and limits; Verify checks the chain
// and the signatures. An empty text is a transcript without records.
func Parse(text []byte) (*Transcript, error) {
	if len(text) > maxSize {
		return nil, fmt.Errorf("read transcript: longer than %d octets", maxSize)
	}
	t := &Transcript{text: bytes.Clone(text)}
	for n := 1; len(text) > 0; n++ {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		text = rest
		if n > maxRecords {
			return nil, fmt.Errorf("read transcript: more than %d records", maxRecords)
		}
		r, err := parseLine(line)
		if err == nil && !whole {
			err = errors.New("the line has no end: the file was cut off")
		}
		if err != nil {
			return nil, fmt.Errorf("read transcript: %w", &Bad{Line: n, Why: err.Error()})
		}
		t.records = append(t.records, r)
	}
	return t, nil
}

func parseLine(line []byte) (Record, error) {
	if len(line) > maxLine {
		return Record{}, fmt.Errorf("longer than %d octets", maxLine)
	}
	var r Record
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Record{}, fmt.Errorf("not a record: %w", err)
	}
	if err := r.check(); err != nil {
		return Record{}, err
	}
	again, err := r.line()
	if err != nil {
		return Record{}, err
	}
	if !bytes.Equal(bytes.TrimSuffix(again, []byte("\n")), line) {
		return Record{}, errors.New("not in the one encoding that records have")
	}
	return r, nil
}
