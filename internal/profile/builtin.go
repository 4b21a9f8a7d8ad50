package profile

import "maps"

// BuiltIn returns the configurations that exist without being written: a fresh
// map, whose values a caller may change before compiling.
func BuiltIn() map[string]Config {
	all := map[string]Config{
		"tls-server":       tlsServer(),
		"tls-server-short": tlsServerShort(),
		"tls-client":       tlsClient(),
		"code-signing":     codeSigning(),
		"user":             user(),
		"operator":         operator(),
		"device":           device(),
		"network-device":   networkDevice(),
		"workload":         workload(),
		"ocsp-signing":     ocspSigning(),
		"est-server":       estServer(),

		"scep-ra":            scepRA("digitalSignature", "keyEncipherment"),
		"scep-ra-signing":    scepRA("digitalSignature"),
		"scep-ra-decryption": scepRA("keyEncipherment"),

		"root-ca":    rootCA(),
		"issuing-ca": issuingCA(),
	}
	maps.Copy(all, templates())
	return all
}

// twoYears is the usual life of 90 days and the longest that a leaf may have.
func twoYears() Validity { return Validity{Default: Duration(90 * Day), Max: Duration(maxLeaf)} }

// optional lists fields that a request may bring.
func optional(attributes ...string) []Field {
	fields := make([]Field, len(attributes))
	for i, a := range attributes {
		fields[i] = Field{Attribute: a}
	}
	return fields
}

// signOrEncipher is for protocols that wrap keys with RSA; other keys only sign.
func signOrEncipher() []string { return []string{"digitalSignature", "keyEncipherment"} }

func tlsServer() Config {
	return Config{
		Description: "Servers that are reached over TLS, by DNS name or address",
		Subject:     Subject{Fields: optional("CN"), Others: "drop", CommonNameInSAN: true},
		SAN:         SAN{DNS: &DNSNames{Wildcard: true, SingleLabel: true}, IP: &Addresses{}, Min: 1},
		Validity:    twoYears(),
		KeyUsage:    signOrEncipher(),
		ExtKeyUsage: []string{"serverAuth"},
	}
}

func tlsServerShort() Config {
	c := tlsServer()
	c.Description = "TLS servers with certificates of 7 days, which need no revocation"
	c.Validity = Validity{Default: Duration(7 * Day), Max: Duration(7 * Day)}
	c.NoRevAvail = true
	return c
}

func tlsClient() Config {
	return Config{
		Description: "Programs and machines that log in over TLS",
		Subject:     Subject{Fields: optional("CN"), Others: "drop", CommonNameInSAN: true},
		SAN: SAN{
			DNS: &DNSNames{SingleLabel: true}, IP: &Addresses{}, Email: &Mailboxes{}, URI: &URIs{}, Min: 1,
		},
		Validity:    twoYears(),
		KeyUsage:    signOrEncipher(),
		ExtKeyUsage: []string{"clientAuth"},
	}
}

func codeSigning() Config {
	return Config{
		Description: "Signing of programs and packages",
		Subject: Subject{Fields: append([]Field{{Attribute: "CN", Request: "required"}},
			append(optional("C", "ST", "L", "O", "serialNumber", "emailAddress"), Field{Attribute: "OU", Max: 4})...)},
		SAN:         SAN{Email: &Mailboxes{}, URI: &URIs{}},
		Validity:    twoYears(),
		KeyUsage:    []string{"digitalSignature"},
		ExtKeyUsage: []string{"codeSigning"},
	}
}

func user() Config {
	return Config{
		Description: "People: log-in and signed mail, by mailbox or user principal name",
		Subject: Subject{Fields: append(optional("CN", "GN", "SN", "C", "O", "UID", "serialNumber", "emailAddress",
			"title"),
			Field{Attribute: "OU", Max: 4}, Field{Attribute: "DC", Max: 10})},
		SAN:         SAN{Email: &Mailboxes{}, UPN: &Mailboxes{}, Min: 1},
		Validity:    twoYears(),
		KeyUsage:    signOrEncipher(),
		ExtKeyUsage: []string{"clientAuth", "emailProtection"},
		Extensions:  Extensions{Others: "drop"},
	}
}

// operator is for those who use the operator API in the network (docs/access.md).
func operator() Config {
	c := user()
	c.Description = "Operators of this CA: log-in at its own API, by mailbox or URI"
	c.SAN = SAN{Email: &Mailboxes{}, URI: &URIs{Allow: []string{"urn:**"}}, Min: 1}
	c.KeyUsage, c.ExtKeyUsage = []string{"digitalSignature"}, []string{"clientAuth"}
	return c
}

func device() Config {
	return Config{
		Description: "Devices: by serial number, URN, permanent identifier, hardware module, DNS name or address",
		Subject: Subject{Fields: append(optional("CN", "serialNumber", "C", "ST", "L", "O", "dnQualifier", "UID"),
			Field{Attribute: "OU", Max: 4}, Field{Attribute: "DC", Max: 10})},
		SAN: SAN{
			DNS: &DNSNames{SingleLabel: true}, IP: &Addresses{}, URI: &URIs{Allow: []string{"urn:**"}},
			Permanent: &Texts{}, Hardware: &Texts{},
		},
		Validity:    twoYears(),
		KeyUsage:    signOrEncipher(),
		ExtKeyUsage: []string{"clientAuth"},
		Extensions:  Extensions{Others: "drop"},
	}
}

// networkDevice is for routers and switches: Cisco IOS and IOS-XE put the host's name
// and address into the subject, unless they are told not to.
func networkDevice() Config {
	c := device()
	c.Description = "Routers and switches, such as Cisco IOS-XE: device with unstructuredName and unstructuredAddress"
	c.Subject.Fields = append(c.Subject.Fields, optional("unstructuredName", "unstructuredAddress")...)
	return c
}

func workload() Config {
	return Config{
		Description: "Workloads with exactly one SPIFFE ID",
		Subject:     Subject{Others: "drop"},
		SAN:         SAN{URI: &URIs{SPIFFE: true, Min: 1, Max: 1}},
		Validity:    twoYears(),
		KeyUsage:    []string{"digitalSignature"},
		ExtKeyUsage: []string{"serverAuth", "clientAuth"},
	}
}

func ocspSigning() Config {
	return Config{
		Description: "Delegated OCSP responders",
		Subject:     ownName(),
		Validity:    Validity{Default: Duration(30 * Day), Max: Duration(90 * Day)},
		KeyUsage:    []string{"digitalSignature"},
		ExtKeyUsage: []string{"OCSPSigning"},
		OCSPNoCheck: true,
	}
}

// scepRA is the certificate of a SCEP endpoint, to which clients encrypt and with
// which answers are signed. serverAuth is what Windows wants to see in it (rule
// S9); without a name to be reached by it serves no TLS client.
func scepRA(usage ...string) Config {
	return Config{
		Description: "SCEP endpoints: clients encrypt requests to it, answers are signed with it",
		Subject:     ownName(),
		Keys:        []string{"rsa-2048+"},
		Validity:    Validity{Default: Duration(Year), Max: Duration(maxLeaf)},
		KeyUsage:    usage,
		ExtKeyUsage: []string{"serverAuth"},
	}
}

// anyName takes every attribute that a name can have.
func anyName() Subject {
	return Subject{Fields: append(optional("CN", "SN", "GN", "serialNumber", "C", "ST", "L", "STREET", "O", "title",
		"postalCode", "initials", "generationQualifier", "dnQualifier", "pseudonym", "organizationIdentifier", "UID",
		"emailAddress"), Field{Attribute: "OU", Max: 4}, Field{Attribute: "DC", Max: 10})}
}

// ownName takes the CA's own name with a CN of its own or one more, which is what a
// server's certificate is called below name constraints.
func ownName() Subject {
	s := anyName()
	s.Fields[0] = Field{Attribute: "CN", Request: "required", Max: 2}
	return s
}

// estServer is for the listener of EST: its clients may know it by cmcRA instead
// of its name (RFC 7030, section 3.6.1).
func estServer() Config {
	c := tlsServer()
	c.Description = "EST servers: TLS servers that clients may recognise by the extended key usage cmcRA"
	c.ExtKeyUsage = []string{"serverAuth", "cmcRA"}
	return c
}

func rootCA() Config {
	return Config{
		Description: "Self-signed roots",
		Subject:     anyName(), // the laws of CA certificates say which
		Keys:        []string{"ec-p384", "ec-p521", "rsa-4096+"},
		Validity:    Validity{Default: Duration(20 * Year), Max: Duration(maxAuthority)},
		KeyUsage:    []string{"keyCertSign", "cRLSign"},
		CA:          true,
	}
}

func issuingCA() Config {
	none := 0
	return Config{
		Description: "CAs that issue to subscribers; none may follow below them",
		Subject:     anyName(), // the laws of CA certificates say which
		Keys:        []string{"ec-p256", "ec-p384", "ec-p521", "rsa-3072+"},
		Validity:    Validity{Default: Duration(10 * Year), Max: Duration(maxAuthority)},
		KeyUsage:    []string{"digitalSignature", "keyCertSign", "cRLSign"},
		ExtKeyUsage: []string{
			"serverAuth", "clientAuth", "codeSigning", "emailProtection", "timeStamping",
			"OCSPSigning", "smartcardLogon", "documentSigning", "cmcRA",
		},
		CA:      true,
		PathLen: &none,
	}
}
