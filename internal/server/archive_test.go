package server

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/api"
)

// A folder of the archive that cannot be written to is a warning with its remedy, and
// none once it can.
func TestFT12_FolderIsMissing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.change(t, "\naudit:\n", "\naudit:\n  retention: 1ms\n  archive: segments\n")
	r := l.serve(t)
	archive := func() api.HealthCheck {
		h := r.server.report(t.Context())
		at := slices.IndexFunc(h.Checks, func(c api.HealthCheck) bool { return c.Name == "audit archive" })
		if at < 0 || !h.Ready {
			t.Fatalf("no check of the archive, or not ready: %+v", h)
		}
		return h.Checks[at]
	}
	dir := filepath.Join(l.dir, "segments")
	gone := "audit archive " + dir + ": no such file or directory"
	if c := archive(); c.State != "warning" || c.Detail != gone || c.Remedy == "" {
		t.Errorf("a missing folder: %+v", c)
	}
	if err := r.server.purge(t.Context()); err == nil {
		t.Error("events were archived without a folder")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if c := archive(); c.State != "warning" || c.Detail != dir+": events could not be moved there; the log says why" {
		t.Errorf("nothing was moved yet: %+v", c)
	}
	if err := r.server.purge(t.Context()); err != nil {
		t.Error(err)
	}
	if c := archive(); c.State != "ok" || c.Detail != dir {
		t.Errorf("the folder is there: %+v", c)
	}
	if segments, err := filepath.Glob(filepath.Join(dir, "audit-*.jsonl")); err != nil || len(segments) != 1 {
		t.Errorf("segments: %v, %v", segments, err)
	}
}
