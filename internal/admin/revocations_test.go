package admin_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/admin/admintest"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// Revocation in bulk, in pages of two.
func TestRevokeInPages(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		c := admintest.Start(t, st, "web-a-1").Client(t)
		for i := range 5 {
			issued(t, c, fmt.Sprintf("h%d.old.test", i))
		}
		keep := issued(t, c, "keep.test")
		preview, err := api.PreviewRevocations.Call(t.Context(), c,
			api.None{}, api.BulkSelection{Where: "name~*.old.test", Reason: "superseded"})
		if err != nil || preview.Count != 5 || len(preview.Certificates) != 5 || preview.Certificates[0].Names[0].Value != "h0.old.test" {
			t.Fatalf("preview %+v, %v", preview, err)
		}
		r := api.BulkRevocation{Where: "name~*.old.test, requester=" + uid(), Reason: "keyCompromise", Limit: 2, InvalidityAt: time.Now().Add(-24 * time.Hour)}
		var revoked []int
		for {
			page, err := api.RevokeCertificates.Call(t.Context(), c, api.None{}, r)
			if err != nil {
				t.Fatal(err)
			}
			revoked = append(revoked, page.Revoked)
			if r.Cursor = page.Next; page.Next == "" {
				break
			}
		}
		if fmt.Sprint(revoked) != "[2 2 1]" {
			t.Errorf("pages of %v", revoked)
		}
		page, err := api.ListCertificates.Call(t.Context(), c,
			api.ListCertificatesParams{CertificateFilter: api.CertificateFilter{Status: api.StatusRevoked}}, api.None{})
		if err != nil || len(page.Certificates) != 5 {
			t.Fatalf("%d are revoked, %v", len(page.Certificates), err)
		}
		for _, cert := range page.Certificates {
			if rev := cert.Revocation; rev.Reason != "keyCompromise" || rev.Requester != uid() || !rev.InvalidityAt.Equal(cert.NotBefore) {
				t.Errorf("revocation %+v of a certificate from %s", rev, cert.NotBefore)
			}
		}
		if cert, err := api.GetCertificate.Call(t.Context(), c,
			api.CertificateRef{Certificate: keep.ID}, api.None{}); err != nil || cert.Status != api.StatusIssued {
			t.Errorf("the one that was not meant: %+v, %v", cert, err)
		}
	})
}

func TestRevokeInPagesRefuses(t *testing.T) {
	t.Parallel()
	c := admintest.Start(t, nil, "web-a-1").Client(t)
	for name, r := range map[string]struct {
		api.BulkRevocation
		reason string
	}{
		"no expression":     {api.BulkRevocation{Reason: "superseded"}, "where"},
		"no reason":         {api.BulkRevocation{Where: "name=a"}, "revocation_reason"},
		"unknown reason":    {api.BulkRevocation{Where: "name=a", Reason: "boredom"}, "revocation_reason"},
		"removeFromCRL":     {api.BulkRevocation{Where: "name=a", Reason: "removeFromCRL"}, ""},
		"too many":          {api.BulkRevocation{Where: "name=a", Reason: "superseded", Limit: 5000}, "limit"},
		"less than nothing": {api.BulkRevocation{Where: "name=a", Reason: "superseded", Limit: -1}, "limit"},
		"future":            {api.BulkRevocation{Where: "name=a", Reason: "superseded", InvalidityAt: time.Now().Add(time.Hour)}, "invalidity_date"},
	} {
		_, err := api.RevokeCertificates.Call(t.Context(), c, api.None{}, r.BulkRevocation)
		if t.Log(name); err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		wantProblem(t, err, http.StatusBadRequest, r.reason)
	}
	_, err := api.PreviewRevocations.Call(t.Context(), c,
		api.None{}, api.BulkSelection{Where: "name", Reason: "superseded"})
	wantProblem(t, err, http.StatusBadRequest, "where")
}

func TestHoldAndRelease(t *testing.T) {
	t.Parallel()
	c := admintest.Start(t, nil, "web-a-1").Client(t)
	cert := issued(t, c, "www.a.test")
	if row, err := api.RevokeCertificate.Call(t.Context(), c,
		api.CertificateRef{Certificate: cert.Serial}, api.RevokeRequest{Reason: "certificateHold"}); err != nil ||
		row.Status != api.StatusRevoked {
		t.Fatalf("%+v, %v", row, err)
	}
	if row, err := api.ReleaseCertificate.Call(t.Context(), c,
		api.CertificateRef{Certificate: cert.Serial}, api.None{}); err != nil || row.Status != api.StatusIssued ||
		row.Revocation.Reason != "" {
		t.Errorf("%+v, %v", row, err)
	}
	_, err := api.ReleaseCertificate.Call(t.Context(), c,
		api.CertificateRef{Certificate: cert.Serial, Issuer: "web-a-1"}, api.None{})
	wantProblem(t, err, http.StatusConflict, "not_on_hold")
	_, err = api.ReleaseCertificate.Call(t.Context(), c, api.CertificateRef{Certificate: "77"}, api.None{})
	wantProblem(t, err, http.StatusNotFound, "certificate_unknown")
	_, err = api.ListCertificates.Call(t.Context(), c,
		api.ListCertificatesParams{CertificateFilter: api.CertificateFilter{Key: "77"}}, api.None{})
	wantProblem(t, err, http.StatusBadRequest, "key_hash")
}
