package credential

import (
	"context"
	"crypto/sha1" //nolint:gosec // what MDMs call a certificate's thumbprint
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

const (
	notifyLimit = 100
	// A notification that fails is repeated after 10 s, 20 s … up to an hour, until
	// the request is purged a day after it expired.
	notifyAgain  = 10 * time.Second
	notifyLatest = time.Hour
)

// outcome is what a webhook is told.
type outcome struct {
	Event         string     `json:"event"` // "scep.issued" or "scep.failed"
	ID            string     `json:"id"`    // of the request; the same when a call is repeated
	At            time.Time  `json:"at"`
	Endpoint      string     `json:"endpoint"`
	TransactionID string     `json:"transaction_id"`
	Subject       string     `json:"subject"`
	Reason        string     `json:"reason,omitempty"`
	Detail        string     `json:"detail,omitempty"`
	Certificate   *delivered `json:"certificate,omitempty"`
}

type delivered struct {
	Serial           string    `json:"serial"` // hexadecimal
	Issuer           string    `json:"issuer"` // RFC 4514
	Subject          string    `json:"subject"`
	ThumbprintSHA1   string    `json:"thumbprint_sha1"`
	ThumbprintSHA256 string    `json:"thumbprint_sha256"`
	NotBefore        time.Time `json:"not_before"`
	NotAfter         time.Time `json:"not_after"`
	DER              []byte    `json:"der"`
}

// notice is an outcome that is not on record: a request that was refused before
// it became one.
type notice struct {
	hook string
	body outcome
}

// Refused tells a webhook that a request which it allowed was refused by the
// rules. There is no row of such a request, so it is told once.
func (w *Webhooks) Refused(name, endpoint, transactionID string, csr *pki.CSR, cause error) {
	f := fault.Of(cause)
	n := notice{hook: name, body: outcome{
		Event: "scep.failed", ID: store.NewID(), At: w.now().UTC(), Endpoint: endpoint, TransactionID: transactionID,
		Subject: csr.Subject.String(), Reason: f.Reason, Detail: f.Detail,
	}}
	if f.Kind == fault.Internal {
		n.body.Detail = ""
	}
	select {
	case w.refused <- n:
	default:
		w.log.Warn("webhook not told of a refusal: too many wait", "webhook", name, "transaction", transactionID)
	}
}

// Run tells webhooks what this process refused until ctx ends.
func (w *Webhooks) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-w.refused:
			w.tellRefusal(ctx, n)
		}
	}
}

func (w *Webhooks) tellRefusal(ctx context.Context, n notice) {
	hook, ok := (*w.hooks.Load())[n.hook]
	if !ok || hook.NotifyURL == "" {
		return
	}
	if _, err := w.call(ctx, &hook, hook.NotifyURL, n.body); err != nil {
		w.log.WarnContext(ctx, "webhook not told of a refusal", "webhook", n.hook, "transaction", n.body.TransactionID,
			"error", err)
	}
}

// Notify tells the outcomes on record that are due, at least once each, over
// restarts. One node at a time should call it.
func (w *Webhooks) Notify(ctx context.Context) error {
	due, err := w.store.DueHooks(ctx, w.now(), notifyLimit)
	if err != nil {
		return err
	}
	for i := range due {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.tell(ctx, &due[i]); err != nil {
			return err
		}
	}
	return nil
}

func (w *Webhooks) tell(ctx context.Context, row *store.Request) error {
	hook, ok := (*w.hooks.Load())[row.Hook]
	if !ok || hook.NotifyURL == "" { // taken out of the configuration: nobody to tell
		return w.store.HookTold(ctx, row.ID)
	}
	body, err := w.outcome(ctx, row)
	if err == nil {
		_, err = w.call(ctx, &hook, hook.NotifyURL, body)
	}
	if err == nil {
		return w.store.HookTold(ctx, row.ID)
	}
	wait := min(notifyAgain<<min(row.HookTries, 20), notifyLatest)
	w.log.WarnContext(ctx, "webhook not told yet", "request", row.ID, "again_in", wait, "error", err)
	return w.store.HookFailed(ctx, row.ID, w.now().Add(wait))
}

func (w *Webhooks) outcome(ctx context.Context, row *store.Request) (*outcome, error) {
	o := &outcome{
		Event: "scep.failed", ID: row.ID, At: w.now().UTC(), Endpoint: row.Endpoint, TransactionID: row.TransactionID,
		Subject: row.Subject, Reason: issuance.VerdictOn(row, w.now()).Code(), Detail: row.Reason,
	}
	if row.CertificateID == "" {
		return o, nil
	}
	c, err := w.store.CertificateByID(ctx, row.CertificateID)
	if err != nil {
		return nil, fmt.Errorf("tell webhook: %w", err)
	}
	cert, err := x509.ParseCertificate(c.DER)
	if err != nil {
		return nil, fmt.Errorf("tell webhook: %w", err)
	}
	issuer, err := pki.ParseNameDER(cert.RawIssuer)
	if err != nil {
		return nil, fmt.Errorf("tell webhook: %w", err)
	}
	thumbprint := sha1.Sum(c.DER) //nolint:gosec // a name, not a signature
	o.Event, o.Reason, o.Detail, o.Subject = "scep.issued", "", "", c.Subject
	o.Certificate = &delivered{
		Serial: string(c.Serial), Issuer: issuer.String(), Subject: c.Subject,
		ThumbprintSHA1:   hex.EncodeToString(thumbprint[:]),
		ThumbprintSHA256: pki.Fingerprint(c.DER), NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), DER: c.DER,
	}
	return o, nil
}
