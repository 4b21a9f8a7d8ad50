package config

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/keys"
)

// What a configuration names is read once: a file that is edited afterwards is of the
// next reading, which reports that something changed.
func TestFilesAreReadOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.withWebhook(t, "https://mdm.example.test")
	l.put(t, "blocked.txt", nil)
	l.change(t, "limits:\n", "blocked_keys:\n  - file: blocked.txt\nlimits:\n")
	l.change(t, "      serverkeygen: true\n", "      serverkeygen: true\n      auth: certificate\n      anchors: "+
		"root.pem\n"+
		"      anchor_names: any\n")
	f, err := Load(l.file())
	if err != nil {
		t.Fatal(err)
	}
	digest := f.Digest()
	if again, err := Load(l.file()); err != nil || !again.Same(f) || again.Digest() != digest {
		t.Fatalf("read again: %v", err)
	}
	for _, name := range []string{"chain.pem", "root.pem", "root.crl", "scep-challenge", "secrets/mdm", "blocked.txt"} {
		l.put(t, name, []byte("half of it"))
	}
	observe := func(string) func(keys.Event) { return nil }
	if all, err := f.Declarations(observe, time.Now); err != nil || len(all) != 2 || len(all[0].Initial) != 2 {
		t.Errorf("declarations: %v, %v", all, err)
	}
	if c, err := f.ESTConfig(); err != nil || len(c.Endpoints[0].Anchors) != 1 {
		t.Errorf("EST: %v", err)
	}
	if all, err := f.SCEPEndpoints(nil); err != nil || all[0].Secret != "kept in scep-challenge" {
		t.Errorf("SCEP: %v", err)
	}
	if _, err := f.List(f.Offline[0].CRL); err != nil {
		t.Error(err)
	}
	if hook, err := f.Webhook(f.Webhooks[0]); err != nil || len(hook.Key) != 32 {
		t.Errorf("webhook: %v", err)
	}
	if f.Digest() != digest {
		t.Error("the digest of what runs changed")
	}
	if _, err := f.Reload(); err == nil {
		t.Error("the next reading found nothing")
	}
}

// Files that all nodes must agree on are compared by what is in them, wherever they are.
func TestDigestOfFiles(t *testing.T) {
	t.Parallel()
	digest := func(anchors string) string {
		l := newLab(t)
		text, err := os.ReadFile(filepath.Join(l.dir, anchors))
		if err != nil {
			t.Fatal(err)
		}
		l.put(t, "anchors.pem", text)
		l.change(t, "      serverkeygen: true\n", "      serverkeygen: true\n      auth: certificate\n"+
			"      anchors: anchors.pem\n      anchor_names: any\n")
		f, err := Load(l.file())
		if err != nil {
			t.Fatal(err)
		}
		return f.Digest()
	}
	first := digest("root.pem")
	if digest("root.pem") != first {
		t.Error("the same file in another folder counts as a difference")
	}
	if digest("chain.pem") == first {
		t.Error("other anchors are no difference")
	}
}
