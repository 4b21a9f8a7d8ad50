package ceremony

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/opensslca"
	"github.com/privyseal/privyseal/internal/pki"
)

// CRLSpec says what list is to be signed.
type CRLSpec struct {
	Days   int  // until nextUpdate; default 180, at most 400
	OnlyCA bool // say in the list that it covers CA certificates only
	// Published is the list that relying parties have, if it is at hand: a witness of
	// what the folder may have lost. Whose it is the caller has checked.
	Published *x509.RevocationList
}

const (
	crlDays     = 180
	maxCRLDays  = 400    // a year and a month
	firstNumber = "1000" // hexadecimal, as in the guides
)

// CRL signs and files a list of all that the index has as revoked, and returns
// its DER. Numbers only rise: the next one is on disk before the list is signed,
// and a number is never used twice. A list that would take back a revocation of
// the one on disk, or of the published one, is refused.
func CRL(ctx context.Context, ca CA, spec CRLSpec) ([]byte, error) {
	if spec.Days == 0 {
		spec.Days = crlDays
	}
	if spec.Days < 1 || spec.Days > maxCRLDays {
		return nil, refuse("validity", "make CRL: %d days: want 1 to %d: until it ends, nobody hears of what is "+
			"revoked next", spec.Days, maxCRLDays)
	}
	entries, err := ca.revoked()
	if err != nil {
		return nil, fmt.Errorf("make CRL: %w", err)
	}
	last, err := ca.lastCRL()
	if err != nil {
		return nil, fmt.Errorf("make CRL: %w", err)
	}
	now := ca.Now().Truncate(time.Second)
	if err := follows("the last list", last, entries, now); err != nil {
		return nil, fmt.Errorf("make CRL: %w", err)
	}
	if err := follows("the published list", spec.Published, entries, now); err != nil {
		return nil, fmt.Errorf("make CRL: %w", err)
	}
	i, key, err := ca.open(ctx, issuer.Locations{}, calaw.Verdict.MayList)
	if err != nil {
		return nil, fmt.Errorf("make CRL: %w", err)
	}
	defer ca.giveBack(key) //nolint:errcheck // nothing is lost with it
	number, err := ca.takeNumber(numberOf(last), numberOf(spec.Published), ca.Listed)
	if err != nil {
		return nil, fmt.Errorf("make CRL: %w", err)
	}
	der, err := i.SignCRL(ctx, issuer.CRL{
		Number: number, ThisUpdate: now, NextUpdate: now.AddDate(0, 0, spec.Days), Entries: entries,
		OnlyCA: spec.OnlyCA,
	})
	if err != nil {
		return nil, fmt.Errorf("make CRL: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
	if err := errors.Join(
		files.Write(ca.path(crlFile), der, 0o644), files.Write(ca.path(crlFile+".pem"), text, 0o644),
	); err != nil {
		return nil, fmt.Errorf("make CRL: %w", err)
	}
	return der, nil
}

// lastCRL returns the list on disk, or nil.
func (ca CA) lastCRL() (*x509.RevocationList, error) {
	der, err := os.ReadFile(ca.path(crlFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read last CRL: %w", err)
	}
	last, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("read last CRL %s: %w", ca.path(crlFile), err)
	}
	return last, nil
}

func numberOf(list *x509.RevocationList) *big.Int {
	if list == nil {
		return nil
	}
	return list.Number
}

// takeNumber returns the number of the next list after it has put the one after
// that on disk. It is higher than those used, of which the file may not know: it
// was put back.
func (ca CA) takeNumber(used ...*big.Int) (*big.Int, error) {
	text, err := os.ReadFile(ca.path(numberTxt))
	if err != nil {
		return nil, fmt.Errorf("read CRL number: %w", err)
	}
	number, ok := new(big.Int).SetString(strings.TrimSpace(string(text)), 16)
	if !ok || number.Sign() < 0 {
		return nil, fmt.Errorf("%s: want a hexadecimal number", ca.path(numberTxt))
	}
	for _, n := range used {
		if n != nil && number.Cmp(n) <= 0 {
			number.Add(n, big.NewInt(1))
		}
	}
	next := new(big.Int).Add(number, big.NewInt(1))
	if err := files.Write(ca.path(numberTxt), []byte(hexNumber(next)+"\n"), 0o644); err != nil {
		return nil, err
	}
	return number, nil
}

// hexNumber writes a number as OpenSSL reads it: in whole octets.
func hexNumber(n *big.Int) string {
	digits := strings.ToUpper(n.Text(16))
	if len(digits)%2 == 1 {
		digits = "0" + digits
	}
	return digits
}

// Revocation says what is to be revoked.
type Revocation struct {
	Serial       pki.Serial
	Reason       pki.Reason
	InvalidityAt *time.Time // for keyCompromise and cACompromise: since when
}

// Revoke enters a certificate of this CA as revoked. It takes effect with the
// next CRL. The key is not used.
func Revoke(_ context.Context, ca CA, r Revocation) error {
	compromise := r.Reason == pki.KeyCompromise || r.Reason == pki.CACompromise
	switch {
	case !opensslca.Storable(r.Reason):
		return refuse("reason", "revoke %s: an index in OpenSSL's format cannot hold the reason %s", r.Serial, r.Reason)
	case r.InvalidityAt != nil && !compromise:
		return refuse("reason", "revoke %s: only a compromise has an invalidity date", r.Serial)
	}
	index, err := ca.Index()
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	for n, e := range index {
		if e.Serial != r.Serial {
			continue
		}
		if e.Revoked != nil {
			return fault.New(fault.AlreadyRevoked, "revoke %s: revoked since %s", e.Serial,
				e.Revoked.At.Format(time.RFC3339))
		}
		index[n].Revoked = &opensslca.Revocation{
			At: ca.Now().Truncate(time.Second), Reason: r.Reason, InvalidityAt: r.InvalidityAt,
		}
		return ca.writeIndex(index)
	}
	return fault.New(fault.NotFound, "revoke %s: not in %s", r.Serial, ca.path(indexFile))
}
