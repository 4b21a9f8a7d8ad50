package store

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
)

func placeholder(n int) string { return "$" + strconv.Itoa(n) }

// auditCursor is a place in the audit record, ordered by time.
type auditCursor struct {
	at   time.Time
	node string
	seq  int64
}

// String returns the cursor in the form that clients hand back.
func (c auditCursor) String() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %d %s", c.at.UnixMicro(), c.seq, c.node))
}

func (c *auditCursor) parse(s string) error {
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return err
	}
	parts := strings.SplitN(string(raw), " ", 3)
	if len(parts) != 3 {
		return fmt.Errorf("audit cursor: want three parts, got %d", len(parts))
	}
	at, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil {
		return err
	}
	c.at, c.node = time.UnixMicro(at), parts[2]
	c.seq, err = strconv.ParseInt(parts[1], 10, 64)
	return err
}
