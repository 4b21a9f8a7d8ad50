package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"strings"
	"time"
)

// ErrUnreachable is in the chain of every error that means that no server
// answered: the socket is not there, not ours to open, or nobody listens on it.
var ErrUnreachable = errors.New("server not reachable")

// maxAnswer bounds an answer that is read into memory; exports are streamed.
const maxAnswer = 64 << 20

// headerTimeout is longer than the server ever takes to answer: it bounds an
// issuance to 20 s.
const headerTimeout = time.Minute

// Client calls the operator API over a unix socket. It is safe for concurrent
// use and keeps connections open; Close drops the idle ones.
type Client struct {
	raw       *rawClient
	transport *http.Transport
}

// Dial returns a client of the server that listens on the unix socket at path.
// It does not connect: the first call does.
func Dial(path string) *Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", path)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
			}
			return conn, nil
		},
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       time.Minute,
		ResponseHeaderTimeout: headerTimeout,
	}
	return &Client{transport: transport, raw: &rawClient{
		Server:         "http://privyseal/",
		Client:         &http.Client{Transport: transport},
		RequestEditors: []RequestEditorFn{dropUnset},
	}}
}

// Close drops idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Issue issues a certificate. With r.DryRun set use Preview.
func (c *Client) Issue(ctx context.Context, r IssueRequest) (*IssuedCertificate, error) {
	r.DryRun = false
	return answer[IssuedCertificate](c.raw.IssueCertificate(ctx, r))
}

// Preview says whether Issue would issue, and what. A refusal by the rules is a
// verdict, not an error.
func (c *Client) Preview(ctx context.Context, r IssueRequest) (*Verdict, error) {
	r.DryRun = true
	return answer[Verdict](c.raw.IssueCertificate(ctx, r))
}

// Page returns one page of the inventory.
func (c *Client) Page(ctx context.Context, p ListCertificatesParams) (*CertificatePage, error) {
	return answer[CertificatePage](c.raw.ListCertificates(ctx, &p))
}

// Certificates walks the inventory from p.Cursor on, page by page. After an
// error it ends.
func (c *Client) Certificates(ctx context.Context, p ListCertificatesParams) iter.Seq2[Certificate, error] {
	return func(yield func(Certificate, error) bool) {
		for {
			page, err := c.Page(ctx, p)
			if err != nil {
				yield(Certificate{}, err)
				return
			}
			for _, cert := range page.Certificates {
				if !yield(cert, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			p.Cursor = page.Next
		}
	}
}

// Certificate returns the certificate with the given id or serial; issuer may be
// empty unless two issuers used that serial.
func (c *Client) Certificate(ctx context.Context, idOrSerial, issuer string) (*Certificate, error) {
	return answer[Certificate](c.raw.GetCertificate(ctx, idOrSerial, &GetCertificateParams{Issuer: issuer}))
}

// PEM returns a certificate and its chain, leaf first, root omitted.
func (c *Client) PEM(ctx context.Context, idOrSerial, issuer string) ([]byte, error) {
	body, err := stream(c.raw.GetCertificatePEM(ctx, idOrSerial, &GetCertificatePEMParams{Issuer: issuer}))
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	pem, err := io.ReadAll(io.LimitReader(body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read chain: %w", err)
	}
	return pem, nil
}

// Export streams every match of p; the caller closes the answer. A read that
// ends in anything but io.EOF means that the export is not complete.
func (c *Client) Export(ctx context.Context, p ExportCertificatesParams) (io.ReadCloser, error) {
	return stream(c.raw.ExportCertificates(ctx, &p))
}

// Revoke revokes a certificate and returns it with its revocation.
func (c *Client) Revoke(ctx context.Context, idOrSerial, issuer string, r RevokeRequest) (*Certificate, error) {
	return answer[Certificate](c.raw.RevokeCertificate(ctx, idOrSerial, &RevokeCertificateParams{Issuer: issuer}, r))
}

// Release takes a certificate off hold and returns it.
func (c *Client) Release(ctx context.Context, idOrSerial, issuer string) (*Certificate, error) {
	return answer[Certificate](c.raw.ReleaseCertificate(ctx, idOrSerial, &ReleaseCertificateParams{Issuer: issuer}))
}

// PreviewRevocations counts what RevokeSome would revoke, page by page, and
// returns the first certificates.
func (c *Client) PreviewRevocations(ctx context.Context, s BulkSelection) (*RevocationPreview, error) {
	return answer[RevocationPreview](c.raw.PreviewRevocations(ctx, s))
}

// RevokeSome revokes the next page of a selection. Call it with the Next of its
// answer as Cursor until that is empty. After an error the same call goes on.
func (c *Client) RevokeSome(ctx context.Context, r BulkRevocation) (*RevocationPage, error) {
	return answer[RevocationPage](c.raw.RevokeCertificates(ctx, r))
}

// Issuers returns the CAs that are installed, then those that are declared only.
func (c *Client) Issuers(ctx context.Context) ([]Issuer, error) {
	list, err := answer[IssuerList](c.raw.ListIssuers(ctx))
	if err != nil {
		return nil, err
	}
	return list.Issuers, nil
}

// RemoveIssuer takes the record of a CA that never signed out of the database.
func (c *Client) RemoveIssuer(ctx context.Context, issuer string) (*RemovedIssuer, error) {
	return answer[RemovedIssuer](c.raw.RemoveIssuer(ctx, issuer))
}

// IssuerCSR returns the certificate request of a configured issuer, whose key is
// made if it has none.
func (c *Client) IssuerCSR(ctx context.Context, issuer string, r NewIssuerCSR) (*IssuerCSR, error) {
	return answer[IssuerCSR](c.raw.CreateIssuerCSR(ctx, issuer, r))
}

// InstallIssuer puts the certificate of a configured CA in force; again is true
// if it was already.
func (c *Client) InstallIssuer(ctx context.Context, issuer string, r IssuerCertificate) (done *InstalledIssuer, again bool, err error) {
	resp, err := c.raw.InstallIssuer(ctx, issuer, r)
	again = err == nil && resp.StatusCode == http.StatusOK
	done, err = answer[InstalledIssuer](resp, err)
	return done, again, err
}

// ImportRecords enters a page of certificates that a CA issued before it came
// here. Sending a page again enters nothing twice.
func (c *Client) ImportRecords(ctx context.Context, issuer string, page ImportPage) (*ImportResult, error) {
	return answer[ImportResult](c.raw.ImportRecords(ctx, issuer, page))
}

// AdoptIssuer takes over a CA that was run elsewhere, after its records; again is
// true if it is in force already.
func (c *Client) AdoptIssuer(ctx context.Context, issuer string, a Adoption) (done *InstalledIssuer, again bool, err error) {
	resp, err := c.raw.AdoptIssuer(ctx, issuer, a)
	again = err == nil && resp.StatusCode == http.StatusOK
	done, err = answer[InstalledIssuer](resp, err)
	return done, again, err
}

// Hierarchy returns the installed CAs as trees, and what is wrong with them.
func (c *Client) Hierarchy(ctx context.Context) (*Hierarchy, error) {
	return answer[Hierarchy](c.raw.GetHierarchy(ctx))
}

// PlanHierarchy says what is to be done so that a hierarchy is as its file says.
func (c *Client) PlanHierarchy(ctx context.Context, file string) (*HierarchyPlan, error) {
	return answer[HierarchyPlan](c.raw.PlanHierarchy(ctx, HierarchyFile{Hierarchy: file}))
}

// ExportHierarchy streams a CA and all below it; the caller closes the answer. A
// read that ends in anything but io.EOF means that it is not complete.
func (c *Client) ExportHierarchy(ctx context.Context, issuer string) (io.ReadCloser, error) {
	return stream(c.raw.ExportHierarchy(ctx, issuer))
}

// CRLs returns the revocation lists of all CAs, or of one issuer if it is not
// empty.
func (c *Client) CRLs(ctx context.Context, issuer string) ([]CRL, error) {
	var list *CRLList
	var err error
	if issuer == "" {
		list, err = answer[CRLList](c.raw.ListCRLs(ctx))
	} else {
		list, err = answer[CRLList](c.raw.GetCRLs(ctx, issuer))
	}
	if err != nil {
		return nil, err
	}
	return list.CRLs, nil
}

// PublishCRLs builds and publishes all lists of an issuer now.
func (c *Client) PublishCRLs(ctx context.Context, issuer string, r PublishRequest) ([]CRL, error) {
	list, err := answer[CRLList](c.raw.PublishCRLs(ctx, issuer, r))
	if err != nil {
		return nil, err
	}
	return list.CRLs, nil
}

// ImportCRL takes over the list, DER or PEM, of a CA whose key is elsewhere. It is
// refused when it takes back revocations of the published one, unless acceptLost
// says why it may.
func (c *Client) ImportCRL(ctx context.Context, list []byte, acceptLost string) (*CRL, error) {
	return answer[CRL](c.raw.ImportCRL(ctx, CRLImport{CRL: listText(list), AcceptLost: acceptLost}))
}

// RecoverRevocations enters what a published list has and the database has lost.
// A nil list takes those that the server has published.
func (c *Client) RecoverRevocations(ctx context.Context, issuer string, list []byte, r RecoverRequest) (*Recovery, error) {
	if list != nil {
		r.CRL = listText(list)
	}
	return answer[Recovery](c.raw.RecoverRevocations(ctx, issuer, r))
}

func listText(list []byte) string {
	if text := string(list); strings.Contains(text, "-----BEGIN") {
		return text
	}
	return base64.StdEncoding.EncodeToString(list)
}

// CreateEAB makes an EAB key. The HMAC key in the answer cannot be had again.
func (c *Client) CreateEAB(ctx context.Context, k NewEABKey) (*EABKeySecret, error) {
	return answer[EABKeySecret](c.raw.CreateEABKey(ctx, k))
}

// EABs returns one page of EAB keys.
func (c *Client) EABs(ctx context.Context, p ListEABKeysParams) (*EABKeyPage, error) {
	return answer[EABKeyPage](c.raw.ListEABKeys(ctx, &p))
}

// DisableEAB disables an EAB key.
func (c *Client) DisableEAB(ctx context.Context, kid string) (*EABKey, error) {
	return answer[EABKey](c.raw.DisableEABKey(ctx, kid))
}

// Requests returns one page of requests that wait, or waited, for a person,
// newest first.
func (c *Client) Requests(ctx context.Context, p ListRequestsParams) (*ApprovalPage, error) {
	return answer[ApprovalPage](c.raw.ListRequests(ctx, &p))
}

// Request returns a request and what would be signed for it now.
func (c *Client) Request(ctx context.Context, id string) (*ApprovalRequest, error) {
	return answer[ApprovalRequest](c.raw.GetRequest(ctx, id))
}

// Approve approves a pending request.
func (c *Client) Approve(ctx context.Context, id string) (*ApprovalRequest, error) {
	return answer[ApprovalRequest](c.raw.ApproveRequest(ctx, id))
}

// Reject rejects a pending request for good.
func (c *Client) Reject(ctx context.Context, id, reason string) (*ApprovalRequest, error) {
	return answer[ApprovalRequest](c.raw.RejectRequest(ctx, id, Rejection{Reason: reason}))
}

// IssueBatch issues one page of a batch. The results are in the order of the
// requests; sending a page again issues nothing twice.
func (c *Client) IssueBatch(ctx context.Context, batch string, page BatchPage) ([]BatchResult, error) {
	results, err := answer[BatchResults](c.raw.IssueBatch(ctx, batch, page))
	if err != nil {
		return nil, err
	}
	if len(results.Results) != len(page.Requests) {
		return nil, fmt.Errorf("issue batch: %d results for %d requests", len(results.Results), len(page.Requests))
	}
	return results.Results, nil
}

// CreateESTUser makes a user for EST. The password in the answer cannot be had
// again.
func (c *Client) CreateESTUser(ctx context.Context, u NewESTUser) (*ESTUserSecret, error) {
	return answer[ESTUserSecret](c.raw.CreateESTUser(ctx, u))
}

// ESTUsers returns one page of EST users.
func (c *Client) ESTUsers(ctx context.Context, p ListESTUsersParams) (*ESTUserPage, error) {
	return answer[ESTUserPage](c.raw.ListESTUsers(ctx, &p))
}

// DisableESTUser disables an EST user.
func (c *Client) DisableESTUser(ctx context.Context, name string) (*ESTUser, error) {
	return answer[ESTUser](c.raw.DisableESTUser(ctx, name))
}

// CreateSCEPChallenge makes a challenge password for SCEP. The secret in the
// answer cannot be had again.
func (c *Client) CreateSCEPChallenge(ctx context.Context, n NewSCEPChallenge) (*SCEPChallengeSecret, error) {
	return answer[SCEPChallengeSecret](c.raw.CreateSCEPChallenge(ctx, n))
}

// SCEPChallenges returns one page of SCEP challenges.
func (c *Client) SCEPChallenges(ctx context.Context, p ListSCEPChallengesParams) (*SCEPChallengePage, error) {
	return answer[SCEPChallengePage](c.raw.ListSCEPChallenges(ctx, &p))
}

// DisableSCEPChallenge disables a SCEP challenge.
func (c *Client) DisableSCEPChallenge(ctx context.Context, id string) (*SCEPChallenge, error) {
	return answer[SCEPChallenge](c.raw.DisableSCEPChallenge(ctx, id))
}

// Audit returns one page of audit events, newest first.
func (c *Client) Audit(ctx context.Context, p ListAuditEventsParams) (*AuditPage, error) {
	return answer[AuditPage](c.raw.ListAuditEvents(ctx, &p))
}

// Reload makes the server read its configuration again, all or nothing.
func (c *Client) Reload(ctx context.Context) (*ReloadResult, error) {
	return answer[ReloadResult](c.raw.ReloadConfig(ctx))
}

// Health returns the server's checks.
func (c *Client) Health(ctx context.Context) (*Health, error) {
	return answer[Health](c.raw.GetHealth(ctx))
}

// Version says what runs at the other end.
func (c *Client) Version(ctx context.Context) (*Version, error) {
	return answer[Version](c.raw.GetVersion(ctx))
}
