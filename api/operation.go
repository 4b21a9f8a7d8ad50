package api

import (
	"cmp"
	"io"
	"net/http"
	"reflect"
	"strings"
	"time"
)

// Operation declares one operation: its name, method, path and rules, and by its
// type parameters what goes in and out. The server's registration, the client's
// call and openapi.yaml come from it.
//
//   - P holds the parameters, in string, integer and time fields with a tag `path`
//     or `query`. A query parameter may be left out unless its tag says "required".
//   - B is the JSON object of the body. With None an empty body will do.
//   - R is the JSON object of the answer, or Stream. A struct whose fields have a tag
//     `status` answers what its one field that is set points to, with that status.
//
// P and B may be None. The comments of the types and fields are the descriptions in
// openapi.yaml; a tag `schema` adds to a field's schema, as "minimum=1,maximum=9".
type Operation[P, B, R any] struct{ Declaration }

// Declaration is what an operation says of itself, its types apart.
type Declaration struct {
	Name, Method, Path   string // Path has its parameters in braces
	Summary, Description string
	Answer               string   // what a success is, where the fields of R do not say it
	Status               int      // of a success; 0 is 200
	Types                []string // media types that a Stream may have
	Line                 any      // of the type that a line of application/jsonl has

	Permission Permission
	Local      bool          // for the unix socket alone, whatever listeners there will be
	Repeat     string        // why sending the same again does nothing twice; empty: it may
	MaxBody    int64         // octets of the body; 0 is DefaultBody
	Time       time.Duration // until the answer; 0 is defaultTime. A Stream has no limit, its pages have
}

// Described is a declaration with the types of its operation.
type Described struct {
	Declaration
	Params, Body, Result reflect.Type
}

// Permission is what an operation needs: docs/access.md says which roles hold it.
type Permission string

// The permissions.
const (
	SelfRead          Permission = "self.read" // everybody who got in has it
	CertRead          Permission = "cert.read"
	CertIssue         Permission = "cert.issue"
	CertRevoke        Permission = "cert.revoke" // hold and release too
	CRLRead           Permission = "crl.read"
	CRLPublish        Permission = "crl.publish"
	CRLTakeIn         Permission = "crl.import"
	CRLRecover        Permission = "crl.recover"
	IssuerRead        Permission = "issuer.read"
	IssuerManage      Permission = "issuer.manage"
	CredentialRead    Permission = "credential.read"    //nolint:gosec // a name: EAB keys, EST users, SCEP challenges
	CredentialCreate  Permission = "credential.create"  //nolint:gosec // a name: EAB keys, EST users, SCEP challenges
	CredentialDisable Permission = "credential.disable" //nolint:gosec // a name: EAB keys, EST users, SCEP challenges
	ACMERead          Permission = "acme.read"
	ACMEEnd           Permission = "acme.end"
	RequestRead       Permission = "request.read"
	RequestDecide     Permission = "request.decide"
	AuditRead         Permission = "audit.read"
	AuditAccept       Permission = "audit.accept"
	ConfigReload      Permission = "config.reload"
	SecretsReseal     Permission = "secrets.reseal"
	StatusRead        Permission = "status.read"
	AccessRead        Permission = "access.read"
	AccessGrant       Permission = "access.grant"
	AccessRevoke      Permission = "access.revoke" // block and unblock too
	AccessAccept      Permission = "access.accept"
	SessionEnd        Permission = "session.end"
	TokenCreate       Permission = "token.create"
	TokenRevoke       Permission = "token.revoke"
)

// Permissions returns all of them.
func Permissions() []Permission {
	return []Permission{
		SelfRead, CertRead, CertIssue, CertRevoke, CRLRead, CRLPublish, CRLTakeIn, CRLRecover, IssuerRead, IssuerManage,
		CredentialRead, CredentialCreate, CredentialDisable, ACMERead, ACMEEnd, RequestRead, RequestDecide, AuditRead,
		AuditAccept, ConfigReload, SecretsReseal, StatusRead, AccessRead, AccessGrant, AccessRevoke, AccessAccept,
		SessionEnd, TokenCreate, TokenRevoke,
	}
}

// Bounds of what a declaration does not bound itself.
const (
	DefaultBody int64 = 4 << 20 // a page of a batch, most of whose CSRs are of a kilobyte or two
	defaultTime       = 50 * time.Second
	longTime          = 10 * time.Minute // what reads or writes the records of a whole CA
)

// None is what an operation has that takes no parameters, or no body.
type None struct{}

// Stream is an answer that is no JSON object. The server sets Type and Write, the
// client finds Type and Body, which it closes.
type Stream struct {
	Type string // media type
	// Write writes the answer. It calls extend whenever it has got a page further.
	Write func(w io.Writer, extend func()) error
	// Body ends in io.EOF only if the answer is whole.
	Body io.ReadCloser
}

// Describe returns the declaration with its types, its unsaid bounds filled in.
func (o Operation[P, B, R]) Describe() Described {
	d := Described{o.Declaration, reflect.TypeFor[P](), reflect.TypeFor[B](), reflect.TypeFor[R]()}
	d.MaxBody, d.Time = cmp.Or(d.MaxBody, DefaultBody), cmp.Or(d.Time, defaultTime)
	d.Status = cmp.Or(d.Status, http.StatusOK)
	return d
}

// Streams reports whether the answer is a Stream.
func (d Described) Streams() bool { return d.Result == reflect.TypeFor[Stream]() }

// Param is one parameter of an operation.
type Param struct {
	Name, In string // In is path or query
	Required bool
	Field    reflect.StructField
}

// Parameters returns the parameters in the order of their fields.
func (d Described) Parameters() []Param {
	var found []Param
	for _, f := range reflect.VisibleFields(d.Params) {
		for _, in := range []string{"path", "query"} {
			if tag := f.Tag.Get(in); tag != "" {
				name, more, _ := strings.Cut(tag, ",")
				found = append(found, Param{Name: name, In: in, Required: in == "path" || more == "required", Field: f})
			}
		}
	}
	return found
}

// ByStatus returns the fields of the answer by the status that they are answered
// with; none where it has one status.
func (d Described) ByStatus() map[string]reflect.StructField {
	found := map[string]reflect.StructField{}
	for _, f := range reflect.VisibleFields(d.Result) {
		if status := f.Tag.Get("status"); status != "" {
			found[status] = f
		}
	}
	return found
}
