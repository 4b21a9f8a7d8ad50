package admin

import (
	"context"
	"regexp"
	"sync"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/web"
)

const (
	batchPage    = 256 // requests in one page
	batchWorkers = 32  // that pass the door at the same time
	// batchTime is when no further request of a page is begun: with the time that
	// one issuance may take, the answer is within the listener's limit.
	batchTime  = 8 * time.Second
	batchWait  = 100 * time.Millisecond
	batchTries = 50 // of a request that another call works on
)

var batchName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// IssueBatch is POST /v1/batches/{batch}. What is wrong with one request is in
// its result; what is wrong with all is an error.
func (s *Server) IssueBatch(ctx context.Context, p api.BatchRef, b *api.BatchPage) (*api.BatchResults, error) {
	items := b.Requests
	switch {
	case !batchName.MatchString(p.Batch):
		return nil, fault.New(fault.Malformed, "batch name %q: want letters, digits and . _ -, 128 at most", p.Batch).
			Because("batch_name")
	case len(items) == 0 || len(items) > batchPage:
		return nil, fault.New(fault.Malformed, "a page has 1 to %d requests, not %d", batchPage, len(items)).
			Because("batch_size")
	}
	common, err := s.common(b)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, batchTime)
	defer cancel()
	results := make([]api.BatchResult, len(items))
	next := make(chan int, len(items))
	for i := range items {
		next <- i
	}
	close(next)
	var workers sync.WaitGroup
	for range min(batchWorkers, len(items)) {
		workers.Go(func() {
			for i := range next {
				results[i] = s.batchItem(ctx, p.Batch, common, items[i])
			}
		})
	}
	workers.Wait()
	return &api.BatchResults{Results: results}, nil
}

// common is what all requests of a page share, checked.
func (s *Server) common(b *api.BatchPage) (api.IssueRequest, error) {
	r := api.IssueRequest{Profile: b.Profile, Issuer: b.Issuer}
	err := s.profileGiven(b.Profile)
	if err == nil {
		err = s.scope("", "", b.Profile)
	}
	if err == nil && b.Issuer == "" {
		r.Issuer, err = onlyIssuer(s.cfg.Pipeline.Rules().CAs)
	}
	return r, err
}

func (s *Server) batchItem(
	ctx context.Context, batch string, b api.IssueRequest, item api.BatchRequest,
) api.BatchResult {
	cert, err := s.enrol(ctx, batch, b, item.CSR)
	if err != nil {
		p := problem(fault.Of(err))
		p.RequestID = web.RequestID(ctx)
		return api.BatchResult{Name: item.Name, Problem: p}
	}
	return api.BatchResult{Name: item.Name, Certificate: issued(cert)}
}

// enrol issues one certificate of a batch. The same request of the same operator
// in a batch of the same name gets the certificate that it has.
func (s *Server) enrol(
	ctx context.Context, batch string, b api.IssueRequest, pem string,
) (*issuance.Certificate, error) {
	csr, err := parseCSR(ctx, pem, false)
	if err != nil {
		return nil, err
	}
	key := approval.Key{
		Identity: requester(ctx), CSR: csr.Raw, TransactionID: "batch:" + batch, Keep: approval.KeepBatch,
	}
	r := issuance.Request{
		Protocol: protocol, Profile: b.Profile, Issuer: b.Issuer, CSR: csr, Requester: requester(ctx),
		RequestID: web.RequestID(ctx),
		Evidence:  []byte(`{"method":"batch"}`),
	}
	for try := 1; ; try++ {
		if err := ctx.Err(); err != nil { // the client has gone: what is not begun is left
			return nil, fault.Wrap(fault.Unavailable, err, "the page took too long: this request was not begun").
				Because("not_begun")
		}
		cert, err := s.cfg.Approvals.Enrol(ctx, key, r)
		if !fault.Is(err, fault.Pending) || issuance.IsWaiting(err) || try == batchTries {
			return cert, err
		}
		select { // the same request is being worked on
		case <-ctx.Done():
		case <-time.After(batchWait):
		}
	}
}

func issued(cert *issuance.Certificate) api.IssuedCertificate {
	return api.IssuedCertificate{
		ID: cert.ID, Issuer: cert.IssuerID, Serial: string(cert.Serial), Profile: cert.Profile,
		NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(), Fingerprint: pki.Fingerprint(cert.DER),
		Chain: string(pki.EncodeChain(append([][]byte{cert.DER}, cert.Chain...)...)),
	}
}
