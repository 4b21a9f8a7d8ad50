// Package config reads the configuration file: what its sections are, what holds
// where they say nothing, and everything that is wrong with them. It opens no key
// and no database; what needs the running server is found out there.
package config

import (
	"net/netip"
	"time"

	"github.com/privyseal/privyseal/internal/challenge"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/scep"
)

// Config is everything that a server is told, as one YAML file. The comments of
// its fields are the manual. Relative paths start at the file's folder; secrets
// are given by reference only (see Reference).
//
// A field with the tag reload:"restart" is read once, when the server starts; one
// with the tag path:"file" is a path, with path:"key" a reference that may hold one.
//
// The file says what may exist: names, key references, profiles, endpoints. What
// happened (certificates, generations, numbers) is in the database.
type Config struct {
	// State is where the server keeps what it writes itself.
	State State `yaml:"state,omitempty" reload:"restart"`
	// PublicURLs are the addresses under which clients reach the server, and the
	// only source of URLs in answers and certificates.
	PublicURLs PublicURLs `yaml:"public_urls"`
	// Database is where everything that happened is recorded.
	Database Database `yaml:"database" reload:"restart"`
	// KeyEncryption refers to the key-encryption keys that seal secrets in the
	// database: one key of 32 bytes a line in base64, the first one seals, the
	// others still open what they once sealed.
	KeyEncryption Reference `yaml:"key_encryption" reload:"restart"`
	// Issuers are the CA keys that this server signs with.
	Issuers []Issuer `yaml:"issuers,omitempty"`
	// PKCS11 is how keys in hardware tokens are reached (docs/hsm.md).
	PKCS11 PKCS11 `yaml:"pkcs11,omitempty"`
	// Offline are the CAs above the issuers, whose keys are elsewhere. Their
	// certificates are published with the issuers' chains in any case; listing one
	// here gives it a name in URLs and publishes its revocation list.
	Offline []Offline `yaml:"offline,omitempty"`
	// Profiles are kinds of certificates beside the built-in ones, or in place of
	// one of the same name.
	Profiles map[string]profile.Config `yaml:"profiles,omitempty"`
	// Endpoints are the services that clients enrol at.
	Endpoints []Endpoint `yaml:"endpoints,omitempty"`
	// BlockedKeys are lists of public keys that are known to strangers, beside those
	// that were revoked as compromised here: no certificate, no account has one.
	// They are read at start and at each reload.
	BlockedKeys []BlockedKeys `yaml:"blocked_keys,omitempty"`
	// Webhooks are services of the operator's that know which device may enrol, for
	// SCEP endpoints that name one (docs/webhooks.md).
	Webhooks []credential.WebhookConfig `yaml:"webhooks,omitempty"`
	// ACME is what all ACME endpoints say about this CA.
	ACME ACME `yaml:"acme,omitempty"`
	// Challenge is how names are validated.
	Challenge challenge.Config `yaml:"challenge,omitempty" reload:"restart"`
	// Limits bound what one client may do.
	Limits limit.Config `yaml:"limits,omitempty" reload:"restart"`
	// Access is who may do what, besides the grants on record, and how people log in.
	Access Access `yaml:"access,omitempty"`
	// Listeners are the addresses to listen on. One that is left out is off.
	Listeners Listeners `yaml:"listeners"`
	// Audit is how the audit record is kept.
	Audit Audit `yaml:"audit" reload:"restart"`
	// Log is how the server logs, on standard error.
	Log Log `yaml:"log,omitempty" reload:"restart"`
}

// State is where the server keeps what it writes itself.
type State struct {
	// Dir holds the node's name, the TLS certificates that the server issued to
	// itself and the operator socket. It is the file's own folder by default. One
	// server at a time may use it.
	Dir string `yaml:"dir,omitempty" path:"file"`
	// Passphrase refers to the passphrase of the private keys in Dir.
	Passphrase Reference `yaml:"passphrase,omitempty"`
}

// PublicURLs are the addresses under which clients reach the server.
type PublicURLs struct {
	// HTTPS is the origin of the ACME endpoints, such as https://ca.example.org.
	HTTPS string `yaml:"https"`
	// EST is the origin of the EST endpoints, such as https://est.example.org.
	EST string `yaml:"est,omitempty"`
	// HTTP is the plain origin of CRLs, OCSP and CA certificates. It is written
	// into every certificate, so choose a name that can stay.
	HTTP string `yaml:"http"`
	// Former are https origins of earlier days, whose ACME accounts stay good.
	Former []string `yaml:"former,omitempty"`
}

// Database is where everything that happened is recorded.
type Database struct {
	// URL is sqlite:PATH or postgres://USER@HOST:PORT/NAME?…, or a reference to
	// one. A URL with a password must be given by reference.
	URL string `yaml:"url"`
	// Migrate brings the schema up to date at start. Without it `privyseal
	// migrate` does, and an older schema refuses to start.
	Migrate bool `yaml:"migrate,omitempty"`
}

// BlockedKeys is a list of public keys.
type BlockedKeys struct {
	// File has one key a line, in lower-case hexadecimal.
	File string `yaml:"file" path:"file"`
	// Format is spki-sha256 (the default), the SHA-256 of the SubjectPublicKeyInfo;
	// or openssl-blacklist, that of Debian's lists of 2008.
	Format string `yaml:"format,omitempty" jsonschema:"enum=spki-sha256,enum=openssl-blacklist"`
}

// PKCS11 is how keys in hardware tokens are reached.
type PKCS11 struct {
	// Module is the absolute path of the library that speaks to the token, for
	// keys whose reference names none with ?module-path=.
	Module string `yaml:"module,omitempty"`
	// Sessions is how many sessions this server opens at one token at most, for all
	// keys in it; 0 is 32. A token that says that it has fewer is asked for no more:
	// lower it where other programs need sessions of the same token.
	Sessions int `yaml:"sessions,omitempty" reload:"restart" jsonschema:"minimum=0,maximum=1024"`
	// FinalTry sends the PIN although the token says that one more wrong one locks it.
	// It is for one start, after the PIN was looked at; take it out again.
	FinalTry bool `yaml:"final_try,omitempty"`
}

// Keys returns what keys in tokens are opened with.
func (p PKCS11) Keys() keys.Config {
	return keys.Config{Module: p.Module, Sessions: p.Sessions, FinalTry: p.FinalTry}
}

// Issuer is one CA key and name that this server signs with.
type Issuer struct {
	// ID names the issuer for good, such as web-a-1; it is part of the URLs in
	// certificates and is never used for another key.
	ID string `yaml:"id"`
	// Key says where the private key is: file:PATH, an encrypted PKCS#8 file,
	// credential:NAME, one that systemd hands over, or pkcs11:token=…;object=…, a key in a token (RFC 7512).
	Key keys.Ref `yaml:"key" path:"key"`
	// Passphrase refers to the passphrase of the key's file, or the token's PIN.
	Passphrase Reference `yaml:"passphrase"`
	// Pool is the name of the issuers that stand in for each other, such as web.
	// Endpoints name it in place of an id. The first in this file whose key answers
	// signs; when it fails, the next one does.
	Pool string `yaml:"pool,omitempty"`
	// Succeeds is the id of the issuer of the same pool whose next generation this
	// one is, such as web-a-1 for web-a-2. As soon as this one can sign, the former
	// one drains: it signs no new certificates, and keeps its lists and OCSP until
	// its last certificate has expired. Then take it out of the file, and this line.
	Succeeds string `yaml:"succeeds,omitempty"`
	// Certificate is a PEM file with the issuer's certificate, then what certifies
	// it, the root last. It is installed in the database at the first start; after
	// that the database says which certificate is in force. Leave it out for keys
	// that `privyseal issuer csr` makes: the server runs without, and `privyseal
	// issuer install` puts the certificate in force.
	Certificate string `yaml:"certificate,omitempty" path:"file"`
	// Subject is what the issuer is called, such as "CN=Web CA A1,O=Example,C=DE":
	// the name in the request that `privyseal issuer csr` makes.
	Subject string `yaml:"subject,omitempty"`
	// Algorithm is the key that `privyseal issuer csr` makes: ec-p256 (the
	// default), ec-p384, ec-p521, rsa-3072 or rsa-4096.
	Algorithm string `yaml:"algorithm,omitempty" jsonschema:"enum=ec-p256,enum=ec-p384,enum=ec-p521,enum=rsa-3072,enum=rsa-4096"`
	// MaxChildren is how many CAs may be installed below this one; any number if
	// left out.
	MaxChildren int `yaml:"max_children,omitempty"`
	// Chains are PEM files of the form of Certificate, with other certificates of
	// the same key and name, or of a CA above it: cross-certificates, so that
	// clients that trust another root find a way. ACME offers them as alternates.
	Chains []string `yaml:"chains,omitempty" path:"file"`
	// OCSP is how the status of this issuer's certificates is answered. Without
	// it, the defaults of its fields hold.
	OCSP OCSP `yaml:"ocsp,omitempty"`
	// CRL is how the issuer publishes its revocation lists.
	CRL crl.Config `yaml:"crl,omitempty"`
}

// Offline is a CA above our issuers.
type Offline struct {
	// ID names the CA for good, such as root-1; it is part of URLs.
	ID string `yaml:"id"`
	// Certificate is a PEM file with the CA's certificate. Leave it out to install
	// it with `privyseal issuer install`.
	Certificate string `yaml:"certificate,omitempty" path:"file"`
	// MaxChildren is how many CAs may be installed below this one; any number if
	// left out.
	MaxChildren int `yaml:"max_children,omitempty"`
	// CRL is a file with the CA's newest revocation list, DER or PEM. It is
	// published when it is newer than the one in the database. Later ones come by
	// `privyseal crl import`.
	CRL string `yaml:"crl,omitempty" path:"file"`
	// OCSP answers for the certificates that this CA signed, from its newest list.
	// It needs a responder certificate, which only this CA's key can sign.
	OCSP *OfflineOCSP `yaml:"ocsp,omitempty"`
}

// Endpoint is one mounted protocol with its authentication and profiles.
type Endpoint struct {
	// Name is the endpoint's name in records, and its part of the path:
	// /acme/NAME/directory, /scep/NAME; EST has labels for that.
	Name string `yaml:"name"`
	// Protocol is acme, est or scep.
	Protocol string `yaml:"protocol" jsonschema:"enum=acme,enum=est,enum=scep"`
	// Issuer is the name of the pool that signs, or the id of an issuer that is in
	// none.
	Issuer string `yaml:"issuer"`
	// Profiles are the names of the profiles that a client may choose; of EST,
	// those that its users may be bound to.
	Profiles []string `yaml:"profiles"`
	// DefaultProfile is used when a client names none; the first of Profiles if
	// left out.
	DefaultProfile string `yaml:"default_profile,omitempty"`
	// ExternalAccount is optional (the default) or required: whether a new ACME
	// account must bind an EAB key. One that is offered is always checked.
	ExternalAccount string `yaml:"external_account,omitempty" jsonschema:"enum=optional,enum=required"`
	// SCEP is what a SCEP endpoint has beside.
	SCEP scep.Options `yaml:"scep,omitempty"`
	// EST is what an EST endpoint has beside.
	EST ESTEndpoint `yaml:"est,omitempty"`
}

// ESTEndpoint is what an EST endpoint has beside what all endpoints have. Empty
// fields have the defaults that their comments name.
type ESTEndpoint struct {
	// Label is the endpoint's part of the path: /.well-known/est/LABEL/cacerts.
	// One endpoint may do without: /.well-known/est/cacerts.
	Label string `yaml:"label,omitempty"`
	// Auth says how clients prove who they are: either (the default) a certificate
	// or a password, both, certificate, or basic. Passwords are those of `privyseal
	// est user add`. Re-enrolment always takes the certificate that is renewed.
	Auth string `yaml:"auth,omitempty" jsonschema:"enum=either,enum=both,enum=certificate,enum=basic"`
	// Anchors is a PEM file of CAs that are not ours and whose certificates may
	// enrol first, such as those that a manufacturer put into devices.
	Anchors string `yaml:"anchors,omitempty" path:"file"`
	// AcceptProfiles are the profiles of our own certificates that log in here,
	// beside those in Profiles.
	AcceptProfiles []string `yaml:"accept_profiles,omitempty"`
	// RAProfiles are the profiles of our own certificates that may enrol for
	// others. They need the extended key usage cmcRA.
	RAProfiles []string `yaml:"ra_profiles,omitempty"`
	// OwnNames is what a client that logs in with a certificate of ours may ask
	// for in simpleenroll: same (the default), its own names; serial, a subject
	// with its serialNumber; any, what the profile allows.
	OwnNames string `yaml:"own_names,omitempty" jsonschema:"enum=same,enum=serial,enum=any"`
	// AnchorNames is the same for certificates of Anchors. Default: serial.
	AnchorNames string `yaml:"anchor_names,omitempty" jsonschema:"enum=same,enum=serial,enum=any"`
	// Grace is how long after its end a certificate can still be renewed, such as
	// 720h. Default: not at all.
	Grace time.Duration `yaml:"grace,omitempty"`
	// RenewKey says which key a renewal must have: any (the default), new or same.
	RenewKey string `yaml:"renew_key,omitempty" jsonschema:"enum=any,enum=new,enum=same"`
	// ChallengePassword is what a challenge password in a request means: binding
	// (the default), the channel binding of the connection if there is one;
	// required, there must be one, and the listener stays at TLS 1.2 for it;
	// ignore, nothing.
	ChallengePassword string `yaml:"challenge_password,omitempty" jsonschema:"enum=binding,enum=required,enum=ignore"`
	// Serverkeygen offers to make keys for clients. They are sent and kept nowhere.
	Serverkeygen bool `yaml:"serverkeygen,omitempty"`
	// WrapBase64 says whether the base64 of answers is wrapped to lines of 64
	// characters: auto (the default), for the User-Agents that docs/est.md lists;
	// always; never. libest reads nothing else, strongSwan one line only.
	WrapBase64 string `yaml:"wrap_base64,omitempty" jsonschema:"enum=auto,enum=always,enum=never"`
	// Rollover is a PEM file of CA certificates that cacerts hands out beside the
	// issuer's chain: while a root is being replaced, the new one and the two that
	// certify old and new with each other.
	Rollover string `yaml:"rollover,omitempty" path:"file"`
	// AcceptProtocols are the protocols by which our certificates that log in and
	// renew here were first enrolled: est, scep, acme, operator. Without it all of
	// them may, and a warning says so.
	AcceptProtocols []string `yaml:"accept_protocols,omitempty" jsonschema:"enum=est,enum=scep,enum=acme,enum=operator"`
}

// ACME is what all ACME endpoints say about this CA.
type ACME struct {
	// TermsOfService is the URL that clients must agree to. PublicURLs.HTTPS/terms
	// if left out, a page that says there are none.
	TermsOfService string `yaml:"terms_of_service,omitempty"`
	// AgreeAgain wants accounts to agree anew when terms_of_service has changed:
	// until then their orders are refused with userActionRequired.
	AgreeAgain bool `yaml:"agree_again,omitempty"`
	// Website tells people more about this CA. PublicURLs.HTTPS if left out.
	Website string `yaml:"website,omitempty"`
}

// Listeners are the addresses to listen on.
type Listeners struct {
	// HTTPS serves ACME and nothing else. It never asks for a client certificate.
	HTTPS TLSListener `yaml:"https,omitempty"`
	// EST serves EST and nothing else. It asks for a client certificate, which a
	// client need not have.
	EST TLSListener `yaml:"est,omitempty"`
	// HTTPSAdmin serves the operator API in the network, to people who log in as Access
	// says (docs/access.md). Where TLS has no certificate, and as long as its issuer
	// cannot sign, it presents a self-signed one whose SHA-256 `privyseal status` prints.
	HTTPSAdmin TLSListener `yaml:"https_admin,omitempty"`
	// HTTP serves CRLs, OCSP, CA certificates and SCEP, which must be plain HTTP.
	HTTP Listener `yaml:"http,omitempty" reload:"restart"`
	// Ops serves /metrics, /healthz and /readyz. Keep it private.
	Ops OpsListener `yaml:"ops,omitempty" reload:"restart"`
	// Socket is the path of the unix socket of the operator API; privyseal.sock
	// in State.Dir if left out. Root and the server's own user may do everything there,
	// other users what they have grants for.
	Socket string `yaml:"socket,omitempty" path:"file" reload:"restart"`
	// SocketGroup is the group, by name or number, that the socket's file gets; its
	// members may open it.
	SocketGroup string `yaml:"socket_group,omitempty" reload:"restart"`
	// SocketMode is the mode of the file: "0600", "0660" or "0666". Default: 0600, with
	// SocketGroup 0660.
	SocketMode string `yaml:"socket_mode,omitempty" reload:"restart"`
}

// Listener is an address.
type Listener struct {
	// Addr is HOST:PORT, the host an address of this machine or empty for all.
	Addr string `yaml:"addr"`
	// Connections are who connects, and how many may.
	Connections Connections `yaml:"connections,omitempty"`
}

// Connections say who connects to a listener, and how many may at a time.
type Connections struct {
	// Max is how many connections may be open at a time. Those of all listeners are
	// cut in proportion to what the limit of open files leaves besides a reserve for
	// the server's own. Default: 4096; of ops, https_admin and the socket 256.
	Max int `yaml:"max,omitempty"`
	// MaxPerSource is how many of one IPv4 address, or of one IPv6 network of 64 bits.
	// Proxies of ForwardedFrom are not counted, those behind ProxyFrom one by one.
	// Default: a quarter of Max.
	MaxPerSource int `yaml:"max_per_source,omitempty"`
	// ProxyFrom are the networks of load balancers that begin each connection with a
	// header of the PROXY protocol, version 2 or 1, such as 10.0.0.0/24. The address in
	// it is the client's for limits, records and logs. One of them that sends none is
	// refused; so is anybody else who sends one.
	ProxyFrom []netip.Prefix `yaml:"proxy_from,omitempty"`
	// ForwardedFrom are the networks of proxies that write into ForwardedHeader for
	// whom they ask. From anybody else the header means nothing.
	ForwardedFrom []netip.Prefix `yaml:"forwarded_from,omitempty"`
	// ForwardedHeader is x-forwarded-for (the default) or forwarded (RFC 7239). The
	// other one is not read: a proxy that does not write it passes it on from anybody.
	ForwardedHeader string `yaml:"forwarded_header,omitempty" jsonschema:"enum=x-forwarded-for,enum=forwarded"`
}

// TLSListener is an address and the certificate that it presents.
type TLSListener struct {
	// Addr is HOST:PORT, the host an address of this machine or empty for all.
	Addr string `yaml:"addr" reload:"restart"`
	// Connections are who connects, and how many may.
	Connections Connections `yaml:"connections,omitempty" reload:"restart"`
	// TLS is the certificate that the listener presents.
	TLS TLS `yaml:"tls"`
}

// TLS is a listener's certificate: either from files or from one of our issuers.
type TLS struct {
	// Certificate is a PEM file with the certificate and what certifies it.
	Certificate string `yaml:"certificate,omitempty" path:"file"`
	// Key says where the certificate's private key is: file:PATH or
	// credential:NAME, encrypted PKCS#8.
	Key keys.Ref `yaml:"key,omitempty" path:"key"`
	// Passphrase refers to the passphrase of Key.
	Passphrase Reference `yaml:"passphrase,omitempty"`
	// Issuer is the pool or the issuer that certifies a key of our own making, kept
	// in State.Dir and renewed when two thirds of its life are over.
	Issuer string `yaml:"issuer,omitempty"`
	// Names are the DNS names and IP addresses of a certificate from Issuer.
	Names []string `yaml:"names,omitempty"`
	// Profile is the profile of a certificate from Issuer. Default: tls-server; of
	// the EST listener est-server, if Issuer can sign it.
	Profile string `yaml:"profile,omitempty"`
	// Algorithms are the keys of certificates from Issuer, one of each kind: ec-p256
	// or ec-p384, and rsa-2048, rsa-3072 or rsa-4096. Each client gets the first whose
	// kind it knows. Default: ec-p256; of the EST listener, whose clients are devices,
	// rsa-2048 as well, if Profile takes it.
	Algorithms []string `yaml:"algorithms,omitempty"`
}

// OpsListener is the address of health and metrics.
type OpsListener struct {
	// Addr is HOST:PORT, the host an address of this machine or empty for all.
	Addr string `yaml:"addr"`
	// Connections are who connects, and how many may.
	Connections Connections `yaml:"connections,omitempty"`
	// Pprof serves Go's profiles under /debug/pprof/.
	Pprof bool `yaml:"pprof,omitempty"`
}

// Log is how the server logs.
type Log struct {
	// Format is text (the default) or json.
	Format string `yaml:"format,omitempty" jsonschema:"enum=text,enum=json"`
	// Level is debug, info (the default), warn or error.
	Level string `yaml:"level,omitempty" jsonschema:"enum=debug,enum=info,enum=warn,enum=error"`
}
