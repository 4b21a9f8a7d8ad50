package profile

import "fmt"

// templates are the six templates that AWS Private CA's guide to CA hierarchies
// names, by the same names and versions, for those who come from there or follow
// the guide (G2-36). What they hold is fixed: another version gets another name.
//
// Two things differ in form, not in meaning. A CRL location is in every
// certificate that is not a root's, for the issuer always has a list. Basic
// constraints are left out of end entities' certificates: CA:FALSE is what their
// absence means, and DER has no other way to say it.
func templates() map[string]Config {
	all := map[string]Config{"RootCACertificate/V1": rootTemplate(), "EndEntityCertificate/V1": endEntityTemplate()}
	for n := range 4 {
		all[fmt.Sprintf("SubordinateCACertificate_PathLen%d/V1", n)] = subordinateTemplate(n)
	}
	return all
}

func rootTemplate() Config {
	c := rootCA()
	c.Description = "Self-signed roots, as the template of AWS Private CA has them"
	c.KeyUsage = []string{"digitalSignature", "keyCertSign", "cRLSign"}
	return c
}

// subordinateTemplate has no extended key usages, which means all of them: it
// fits only below CAs that have none either.
func subordinateTemplate(pathLen int) Config {
	c := issuingCA()
	c.Description = fmt.Sprintf("CAs with path length %d, as the template of AWS Private CA has them", pathLen)
	c.ExtKeyUsage, c.PathLen, c.Approval = nil, &pathLen, true
	return c
}

// endEntityTemplate takes every name that a request brings.
func endEntityTemplate() Config {
	return Config{
		Description: "End entities of all kinds, as the template of AWS Private CA has them",
		Subject:     anyName(),
		SAN: SAN{
			DNS: &DNSNames{Wildcard: true, SingleLabel: true}, IP: &Addresses{}, Email: &Mailboxes{}, URI: &URIs{},
			UPN:       &Mailboxes{},
			Permanent: &Texts{}, Hardware: &Texts{}, Directory: &Texts{},
		},
		Validity:    twoYears(),
		KeyUsage:    signOrEncipher(),
		ExtKeyUsage: []string{"serverAuth", "clientAuth"},
	}
}
