// Package profile holds the rules of each kind of certificate. Compile turns a
// Config, as it stands in YAML, into a Profile; Apply turns a request and the
// time into a Template: what will be signed, but for serial and issuer.
//
// The package is pure: no I/O, no clock, no key. Nothing of a request reaches a
// template that a rule did not let through: names, keys, usages, validity and
// extensions are each checked here and only here (the first step of issuance).
// Whether the issuer may sign the template is the business of hierarchy.
package profile

// Config is a profile as an operator writes it. An absent knob has the default
// that its comment names; Compile reports every mistake in one error.
type Config struct {
	// Description is one line for people: consoles, listings, ACME directories.
	Description string `yaml:"description,omitempty" json:",omitempty"`

	// Subject says which parts of the distinguished name a certificate carries.
	Subject Subject `yaml:"subject,omitempty"`
	// SAN says which subject alternative names are allowed; a type that is
	// absent is refused.
	SAN SAN `yaml:"san,omitempty"`

	// Keys lists the accepted public keys: ec-p256, ec-p384, ec-p521, ed25519,
	// rsa-2048, rsa-3072, rsa-4096 (exactly that size), or with a plus sign
	// (rsa-2048+) that size and larger ones, up to 8192 bits. Default: ec-p256,
	// ec-p384, rsa-2048+; for CAs ec-p256, ec-p384, rsa-3072+.
	Keys []string `yaml:"keys,omitempty" json:",omitempty"`

	// Validity bounds the certificate's life.
	Validity Validity `yaml:"validity,omitempty"`

	// KeyUsage states the intent, by the names of RFC 5280: digitalSignature,
	// contentCommitment, keyEncipherment, dataEncipherment, keyAgreement,
	// keyCertSign, cRLSign. What a key cannot do is left out in its certificate:
	// keyEncipherment and dataEncipherment are for RSA keys alone, keyAgreement
	// for elliptic curves alone. Default: digitalSignature; for CAs keyCertSign
	// and cRLSign.
	KeyUsage []string `yaml:"key_usage,omitempty" json:",omitempty"`
	// ExtKeyUsage lists extended key usages by name (serverAuth, clientAuth,
	// codeSigning, emailProtection, timeStamping, OCSPSigning, cmcRA,
	// smartcardLogon, documentSigning, ipsecIKE, …) or OID. At least one, except
	// for CAs, where none means unrestricted.
	ExtKeyUsage []string `yaml:"ext_key_usage,omitempty" json:",omitempty"`
	// Policies lists certificate policy OIDs.
	Policies []string `yaml:"policies,omitempty" json:",omitempty"`

	// Extensions says what becomes of other extensions in a certificate request.
	Extensions Extensions `yaml:"extensions,omitempty"`

	// Approval holds every request until a person approves it.
	Approval bool `yaml:"approval,omitempty" json:",omitempty"`

	// NoRevAvail marks certificates that live too briefly to be revoked (RFC
	// 9608): they carry no CRL and no OCSP location. Needs validity.max of at
	// most 10 days.
	NoRevAvail bool `yaml:"no_rev_avail,omitempty" json:",omitempty"`
	// OCSPNoCheck is for OCSP responders (RFC 6960, section 4.2.2.2.1): clients
	// do not ask for the status of the responder's own certificate. Needs the
	// extended key usage OCSPSigning.
	OCSPNoCheck bool `yaml:"ocsp_nocheck,omitempty" json:",omitempty"`

	// MustStaple gives the TLS feature status_request (RFC 7633, "must staple") to
	// those requests that ask for it; without it they are refused, or the wish is
	// dropped if extensions.others says so. Clients then refuse a server that does
	// not send an OCSP response along, so it is not together with no_rev_avail and
	// ocsp_nocheck, which have no OCSP.
	MustStaple bool `yaml:"must_staple,omitempty" json:",omitempty"`

	// CA makes certificates of certification authorities. Only the ceremony and
	// explicit operator acts use such profiles.
	CA bool `yaml:"ca,omitempty" json:",omitempty"`
	// PathLen is how many CAs may follow below such a CA; absent means any
	// number. Only with ca.
	PathLen *int `yaml:"path_len,omitempty" json:",omitempty"`
	// NameConstraints bounds the names below such a CA. Only with ca.
	NameConstraints *NameConstraints `yaml:"name_constraints,omitempty" json:",omitempty"`
}

// Subject is the knobs of the distinguished name.
type Subject struct {
	// Fields lists the attributes with a rule. Fixed ones come first in the
	// certificate, in this order; the others keep the order of the request.
	Fields []Field `yaml:"fields,omitempty" json:",omitempty"`
	// Others is what happens to requested attributes without a rule, and to
	// values that differ from a fixed one: "refuse" (default) or "drop".
	Others string `yaml:"others,omitempty" json:",omitempty"`
	// CommonNameInSAN demands that a CN equals one of the DNS names, addresses
	// or mailboxes in the SAN. If a request has a CN and no SAN at all, the CN
	// then becomes the SAN. An address leaves the CN again: it belongs in the SAN
	// alone.
	CommonNameInSAN bool `yaml:"common_name_in_san,omitempty" json:",omitempty"`
}

// Field is the rule of one attribute.
type Field struct {
	// Attribute is its short name (CN, O, OU, C, ST, L, DC, UID, serialNumber,
	// emailAddress, …) or OID.
	Attribute string `yaml:"attribute"`
	// Fixed puts this value into every certificate.
	Fixed string `yaml:"fixed,omitempty" json:",omitempty"`
	// Request says what the request may bring: "optional", "required" or
	// "forbidden". Default: optional. Not together with fixed.
	Request string `yaml:"request,omitempty" json:",omitempty"`
	// Match lists patterns of which a requested value must match one: "*" is any
	// run of characters but "/", "**" any run at all. Default: anything.
	Match []string `yaml:"match,omitempty" json:",omitempty"`
	// Max is how often the attribute may occur. Default: 1.
	Max int `yaml:"max,omitempty" json:",omitempty"`
}

// SAN is the knobs of the subject alternative names.
type SAN struct {
	DNS       *DNSNames  `yaml:"dns,omitempty" json:",omitempty"`
	IP        *Addresses `yaml:"ip,omitempty" json:",omitempty"`
	Email     *Mailboxes `yaml:"email,omitempty" json:",omitempty"`
	URI       *URIs      `yaml:"uri,omitempty" json:",omitempty"`
	UPN       *Mailboxes `yaml:"upn,omitempty" json:",omitempty"`
	Permanent *Texts     `yaml:"permanent_identifier,omitempty" json:",omitempty"`
	Hardware  *Texts     `yaml:"hardware_module,omitempty" json:",omitempty"`
	Directory *Texts     `yaml:"directory_name,omitempty" json:",omitempty"`
	// Min and Max bound the number of all names together. Defaults: 0 and 100;
	// Max may be raised to 1000.
	Min int `yaml:"min,omitempty" json:",omitempty"`
	Max int `yaml:"max,omitempty" json:",omitempty"`
}

// DNSNames is the rule of DNS names.
type DNSNames struct {
	// Allow and Deny list patterns; a name must match one of Allow (empty: any)
	// and none of Deny. "www.example.com" is that name, "*.example.com" one label
	// more, "**.example.com" one label or more, "**" every name. A wildcard name
	// counts as a name whose first label is "*"; it is also denied if it would
	// cover a name that Deny spells out.
	Allow []string `yaml:"allow,omitempty" json:",omitempty"`
	Deny  []string `yaml:"deny,omitempty" json:",omitempty"`
	// Wildcard allows "*" as the leftmost label.
	Wildcard bool `yaml:"wildcard,omitempty" json:",omitempty"`
	// SingleLabel allows names without a dot.
	SingleLabel bool `yaml:"single_label,omitempty" json:",omitempty"`
	// Underscore allows "_" in labels.
	Underscore bool `yaml:"underscore,omitempty" json:",omitempty"`
	// Min and Max bound how many there are. Default: no bound but SAN's.
	Min int `yaml:"min,omitempty" json:",omitempty"`
	Max int `yaml:"max,omitempty" json:",omitempty"`
}

// Addresses is the rule of IP addresses.
type Addresses struct {
	// Allow and Deny list networks ("10.0.0.0/8") or single addresses; an empty
	// Allow means any.
	Allow []string `yaml:"allow,omitempty" json:",omitempty"`
	Deny  []string `yaml:"deny,omitempty" json:",omitempty"`
	// Min and Max bound how many there are. Default: no bound but SAN's.
	Min int `yaml:"min,omitempty" json:",omitempty"`
	Max int `yaml:"max,omitempty" json:",omitempty"`
}

// Mailboxes is the rule of mailboxes and user principal names.
type Mailboxes struct {
	// Allow and Deny list patterns of the form LOCAL@DOMAIN: LOCAL is "*" or
	// exact, DOMAIN a pattern as for DNS names; "**" is everything. An empty Allow
	// means any.
	Allow []string `yaml:"allow,omitempty" json:",omitempty"`
	Deny  []string `yaml:"deny,omitempty" json:",omitempty"`
	// Min and Max bound how many there are. Default: no bound but SAN's.
	Min int `yaml:"min,omitempty" json:",omitempty"`
	Max int `yaml:"max,omitempty" json:",omitempty"`
}

// URIs is the rule of URIs.
type URIs struct {
	// Allow and Deny list patterns over the whole URI: "*" is any run of
	// characters but "/", "**" any run at all. An empty Allow means any.
	Allow []string `yaml:"allow,omitempty" json:",omitempty"`
	Deny  []string `yaml:"deny,omitempty" json:",omitempty"`
	// SPIFFE demands that each is a SPIFFE ID of a workload.
	SPIFFE bool `yaml:"spiffe,omitempty" json:",omitempty"`
	// Min and Max bound how many there are. Default: no bound but SAN's.
	Min int `yaml:"min,omitempty" json:",omitempty"`
	Max int `yaml:"max,omitempty" json:",omitempty"`
}

// Texts is the rule of the other forms: permanent identifiers (VALUE or
// ASSIGNER-OID/VALUE), hardware modules (TYPE-OID/HEX), directory names (RFC
// 4514).
type Texts struct {
	// Allow and Deny list patterns as for URIs. An empty Allow means any.
	Allow []string `yaml:"allow,omitempty" json:",omitempty"`
	Deny  []string `yaml:"deny,omitempty" json:",omitempty"`
	// Min and Max bound how many there are. Default: no bound but SAN's.
	Min int `yaml:"min,omitempty" json:",omitempty"`
	Max int `yaml:"max,omitempty" json:",omitempty"`
}

// Validity is the knobs of a certificate's life.
type Validity struct {
	// Default is the whole life, backdating included, unless a request asks for
	// another end. Default: 90d, or max if that is shorter; for CAs 10y.
	Default Duration `yaml:"default,omitempty" json:",omitempty"`
	// Max is the longest life that a request may ask for. Default: the greater
	// of default and 365d; at most 2y (730 days), for CAs 25y.
	Max Duration `yaml:"max,omitempty" json:",omitempty"`
	// Backdate moves the beginning before the time of issuance, for clocks that
	// are slow. Default: 1h; "0s" for none; at most 24h.
	Backdate *Duration `yaml:"backdate,omitempty" json:",omitempty"`
	// Postdate is how far ahead a request may put the beginning. Default: 24h.
	Postdate *Duration `yaml:"postdate,omitempty" json:",omitempty"`
	// BeyondIssuer is what happens if the issuer ends before the certificate
	// would: "clamp" ends them together, "refuse" does not issue. An end that a
	// request asks for by itself is never moved. Default: clamp; for CAs refuse.
	BeyondIssuer string `yaml:"beyond_issuer,omitempty" json:",omitempty"`
}

// Extensions is the knobs of extensions in certificate requests.
type Extensions struct {
	// Copy lists the OIDs of extensions that are copied, not critical. Those
	// that the CA writes itself cannot be listed.
	Copy []string `yaml:"copy,omitempty" json:",omitempty"`
	// Others is what happens to the rest: "refuse" (default) or "drop". Key
	// usages, basic constraints, key identifiers and the like, which nearly every
	// tool puts into its requests, are always dropped.
	Others string `yaml:"others,omitempty" json:",omitempty"`
}

// NameConstraints bounds the names below a CA (RFC 5280, section 4.2.1.10).
type NameConstraints struct {
	// Permitted restricts each type that it lists to the subtrees given;
	// Excluded forbids subtrees.
	Permitted Subtrees `yaml:"permitted,omitempty"`
	Excluded  Subtrees `yaml:"excluded,omitempty"`
}

// Subtrees lists name spaces by type.
type Subtrees struct {
	// DNS: "example.com" is that name and all below; "" is every name.
	DNS []string `yaml:"dns,omitempty" json:",omitempty"`
	// IP: networks, "10.0.0.0/8".
	IP []string `yaml:"ip,omitempty" json:",omitempty"`
	// Email: a mailbox, a host ("example.com": just there) or ".example.com".
	Email []string `yaml:"email,omitempty" json:",omitempty"`
	// URI: a host, or ".example.com" for the hosts below it.
	URI []string `yaml:"uri,omitempty" json:",omitempty"`
	// Directory: names in RFC 4514 form, subtrees of the directory.
	Directory []string `yaml:"directory_name,omitempty" json:",omitempty"`
}
