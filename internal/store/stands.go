package store

import (
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

// OrderStands is the condition that an order still rests on what it rested on
// when it was finalized: it is processing, its account is valid, and so are all
// its authorizations.
type OrderStands struct {
	ID string
	// Bound is set where accounts need an external account binding: the binding's
	// key was not disabled since the order was placed.
	Bound bool
}

// guards are the statements that decide it. Rows that another node is changing
// are waited for first, so that the check sees how that ended; whoever changes
// them later comes after the reservation.
func (o *OrderStands) guards(e engine, now time.Time) []*stmt {
	var one int64
	var locks []*stmt
	if lock := e.share("a"); lock != "" {
		locks = append(locks, may(`SELECT 1 FROM order_authorizations l
			JOIN authorizations a ON a.id = l.authorization_id
			WHERE l.order_id = $1 ORDER BY a.id`+lock, o.ID).reads(&one))
		if o.Bound {
			locks = append(locks, may(`SELECT 1 FROM orders o JOIN accounts c ON c.id = o.account_id
				JOIN eab_keys a ON a.kid = c.eab_kid
				WHERE o.id = $1`+lock, o.ID).reads(&one))
		}
	}
	sql := `SELECT 1 FROM orders o JOIN accounts c ON c.id = o.account_id
		WHERE o.id = $1 AND o.status = 'processing' AND c.status = 'valid'
		AND NOT EXISTS (SELECT 1 FROM order_authorizations l LEFT JOIN authorizations a ON a.id = l.authorization_id
			WHERE l.order_id = o.id AND (a.id IS NULL OR a.status <> 'valid' OR a.expires <= $2))`
	if o.Bound {
		sql += ` AND NOT EXISTS (SELECT 1 FROM eab_keys k WHERE k.kid = c.eab_kid AND k.disabled_at >= o.created_at)`
	}
	return append(locks, must(sql+e.share("o, c"), o.ID, now).reads(&one))
}

// holds is the condition that a certificate is on record and not revoked.
func holds(certID string) *stmt {
	var one int64
	return must(`SELECT 1 FROM certificates c WHERE c.id = $1 AND c.status IN ('issued', 'imported')
		AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.certificate_id = c.id AND r.released_at IS NULL)`,
		certID).reads(&one)
}

func revoked() error {
	return fault.New(fault.Denied, "client certificate: it was revoked while the request was being answered").
		Because("certificate_revoked")
}

const reasonCeased = "order_ceased"

func ceased() error {
	return fault.New(fault.Denied, "what the order rests on does not hold any more").Because(reasonCeased)
}

// HasCeased reports whether err says that an order does not stand any more.
func HasCeased(err error) bool {
	return fault.Is(err, fault.Denied) && fault.Of(err).Reason == reasonCeased
}
