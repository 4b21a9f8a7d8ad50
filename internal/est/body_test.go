package est

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/fault"
)

// bodies are what clients send: one file each, the same request in all of them.
func bodies(t testing.TB) (files map[string][]byte, der []byte) {
	t.Helper()
	files = map[string][]byte{}
	paths, err := filepath.Glob("testdata/bodies/*")
	if err != nil || len(paths) == 0 {
		t.Fatal("no fixtures", err)
	}
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(p)] = text
	}
	der = files["request.der"]
	delete(files, "request.der")
	return files, der
}

// TestEST_E2_Bodies reads every form in which a client sends one request.
func TestEST_E2_Bodies(t *testing.T) {
	t.Parallel()
	files, der := bodies(t)
	for name, text := range files {
		got, err := decodeBody(text)
		if err != nil || !bytes.Equal(got, der) {
			t.Errorf("%s: %v, %d octets of %d", name, err, len(got), len(der))
		}
	}
}

// TestEST_E2_BodiesThatAreRefused says what is wrong with a body.
func TestEST_E2_BodiesThatAreRefused(t *testing.T) {
	t.Parallel()
	files, der := bodies(t)
	line := base64.StdEncoding.EncodeToString(der)
	block := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	for name, tc := range map[string]struct{ body, says string }{
		"nothing":              {"", "empty"},
		"only white space":     {" \r\n\t\n", "empty"},
		"DER":                  {string(der), "DER"},
		"base64url":            {base64.URLEncoding.EncodeToString([]byte{0xfb, 0xff, 0xfe}), "not base64"},
		"no padding":           {"MAA", "not base64"},
		"bits that are no one": {"MAB=", "not base64"},
		"text behind":          {line + "\n--", "not base64"},
		"two blocks":           {block + block, "more than one"},
		"half a block":         {block[:len(block)/2], "is not"},
		"an empty block":       {"-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n", ""},
		"percent signs":        {strings.ReplaceAll(line, "+", "%2B"), "not base64"},
		"quoted printable":     {strings.TrimRight(string(files["wrapped-crlf.b64"]), "\r\n") + "=3D", "not base64"},
	} {
		if tc.body == line { // nothing was there to be replaced
			continue
		}
		_, err := decodeBody([]byte(tc.body))
		if !fault.Is(err, fault.Malformed) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestEST_E2_OneLine: one line of base64, one newline, whatever the length.
func TestEST_E2_OneLine(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 48, 49, 5000} {
		body := encodeBody(bytes.Repeat([]byte{0xfb}, n))
		if bytes.Count(body, []byte("\n")) != 1 || body[len(body)-1] != '\n' || bytes.ContainsAny(body, "\r -_") {
			t.Errorf("%d octets became %q", n, body)
		}
		if back, err := decodeBody(body); err != nil || len(back) != n {
			t.Errorf("%d octets came back as %d (%v)", n, len(back), err)
		}
	}
}

// FuzzBody: nothing that a stranger sends breaks the reader, and what it reads it
// also writes.
func FuzzBody(f *testing.F) {
	files, _ := bodies(f)
	for _, text := range files {
		f.Add(text)
	}
	for _, s := range []string{"", "=", "MAA=", "-----BEGIN ", "-----BEGIN X-----\na: b\n\nMAA=\n-----END X-----", "0\x82", "\xff\xfe"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		der, err := decodeBody(body)
		if err != nil {
			if !fault.Is(err, fault.Malformed) || der != nil {
				t.Fatalf("%v, %d octets", err, len(der))
			}
			return
		}
		if len(der) == 0 || len(der) > len(body) {
			t.Fatalf("%d octets from %d", len(der), len(body))
		}
		again, err := decodeBody(encodeBody(der))
		if err != nil || !bytes.Equal(again, der) {
			t.Fatalf("not read again: %v", err)
		}
	})
}
