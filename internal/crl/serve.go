package crl

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

// Bounds of how long a cache may keep a list: a part of the time that it has
// left, so that a list that comes early is noticed soon.
const (
	cacheShare = 4
	cacheMost  = time.Hour
)

// Serve answers GET and HEAD for a list by its name in URLs, without .crl, from
// the file (rule C9): with a strong validator, ranges, and neither compression
// nor redirects. An expired list is served too: the client is the judge of that,
// and no list is worse.
func (p *Publisher) Serve(w http.ResponseWriter, r *http.Request, name string) error {
	k, err := p.parse(name)
	if err != nil {
		return err
	}
	list, err := p.local.lend(k)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	defer list.Close() //nolint:errcheck // only read
	if list.held == nil && !p.seen.Load() {
		return fault.New(fault.Unavailable, "the server is starting").After(time.Second)
	}
	if list.held == nil {
		return fault.New(fault.NotFound, "no revocation list %s is published", k)
	}
	keep := min(list.nextUpdate.Sub(p.Now())/cacheShare, cacheMost)
	header := w.Header()
	header.Set("Content-Type", "application/pkix-crl")
	header.Set("ETag", `"`+hex.EncodeToString(list.sha256[:])+`"`)
	header.Set("Cache-Control", "public, no-transform, max-age="+strconv.Itoa(int(max(keep, 0).Seconds())))
	http.ServeContent(w, r, "", list.thisUpdate, list.file)
	return nil
}

// parse finds the series of a name; shards and deltas only of CAs that are here.
func (p *Publisher) parse(name string) (key, error) {
	if a, err := p.authority(name); err == nil {
		return key{issuer: a.ID}, nil
	}
	k := key{}
	if id, ok := strings.CutSuffix(name, "-delta"); ok {
		k = key{issuer: id, delta: true}
	} else if id, shard, ok := strings.Cut(name, "/"); ok {
		n, err := strconv.Atoi(shard)
		if err != nil || n < 1 || strconv.Itoa(n) != shard {
			return k, fault.New(fault.NotFound, "%q is not the number of a list", shard)
		}
		k = key{issuer: id, shard: n}
	} else {
		k.issuer = name
	}
	a, err := p.authority(k.issuer)
	if err == nil {
		k.issuer = a.ID
	}
	return k, err
}
