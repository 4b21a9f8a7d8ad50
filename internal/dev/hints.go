package dev

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/devca"
)

// hintsTemplate is what dev prints once it serves. Each command works as it
// stands, from any folder and without root.
var hintsTemplate = template.Must(template.New("hints").Parse(`Privyseal serves {{.Directory}}
The root to trust is {{.Root}}

Look at the directory:

  curl -sS --cacert {{.Root}} {{.Directory}}

Get a certificate (any name below .localhost is this machine):

  REQUESTS_CA_BUNDLE={{.Root}} certbot certonly --non-interactive --agree-tos --register-unsafely-without-email --server {{.Directory}} --standalone --preferred-challenges http --http-01-address 127.0.0.1 --http-01-port {{.Port}} --config-dir {{.Clients}}/certbot/config --work-dir {{.Clients}}/certbot/work --logs-dir {{.Clients}}/certbot/logs -d certbot.localhost

  LEGO_CA_CERTIFICATES={{.Root}} {{.Lego}}

The same for devices, over EST, with the password of the user {{.ESTUser}}:

  curl -sS --cacert {{.Root}} {{.EST}}/cacerts | openssl base64 -d -A | openssl pkcs7 -inform DER -print_certs

  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {{.Clients}}/device.key -subj /CN=device-1 | curl -sS --cacert {{.Root}} -u {{.ESTUser}}:"$(cat {{.ESTPassword}})" -H 'Content-Type: application/pkcs10' --data-binary @- {{.EST}}/simpleenroll | openssl base64 -d -A | openssl pkcs7 -inform DER -print_certs -out {{.Clients}}/device.pem

Accounts at {{.EAB}} need a key; this makes one:

  {{.Self}} eab create --any-name --socket {{.Socket}}

Devices enrol over SCEP at {{.SCEP}}, challenge in {{.Challenge}}:

  scepclient -server-url {{.SCEP}} -challenge "$(cat {{.Challenge}})" -private-key device.key -certificate device.crt -cn device-1 -key-encipherment-selector

Health: http://{{.Ops}}/readyz   Metrics: http://{{.Ops}}/metrics   Roots: {{.HTTP}}/roots
Stop with Ctrl-C; the next start goes on with {{.Dir}}
`))

// hints prints what to type next.
func hints(ctx context.Context, out io.Writer, dir string, cfg *config.File) error {
	clients := filepath.Join(dir, "clients")
	if err := os.MkdirAll(clients, 0o700); err != nil {
		return fmt.Errorf("make folder of the clients: %w", err)
	}
	directory := cfg.PublicURLs.HTTPS + "/acme/default/directory"
	self, err := os.Executable()
	if err != nil {
		self = "privyseal"
	}
	port := fmt.Sprint(cfg.Challenge.HTTPPort)
	var page bytes.Buffer
	err = hintsTemplate.Execute(&page, map[string]string{
		"Directory": directory, "EAB": cfg.PublicURLs.HTTPS + "/acme/eab/directory",
		"Root": quote(filepath.Join(dir, "root.pem")), "Clients": quote(clients), "Port": port,
		"Lego": legoLine(ctx, directory, port, filepath.Join(clients, "lego")),
		"EST":  cfg.PublicURLs.EST + "/.well-known/est", "ESTUser": devUser,
		"ESTPassword": quote(filepath.Join(dir, estPasswordFile)),
		"Self":        quote(self), "Socket": quote(cfg.Listeners.Socket),
		"SCEP": cfg.PublicURLs.HTTP + "/scep/default", "Challenge": quote(filepath.Join(dir, devca.ChallengeFile)),
		"Ops": cfg.Listeners.Ops.Addr, "HTTP": cfg.PublicURLs.HTTP, "Dir": dir,
	})
	if err != nil {
		return fmt.Errorf("print hints: %w", err)
	}
	_, err = out.Write(page.Bytes())
	return err
}

// legoLine fits the lego on PATH: up to version 4 options stand before the verb,
// from version 5 on after it, and the port has another name. Without lego on
// PATH it is the line of version 4, which distributions carry.
func legoLine(ctx context.Context, directory, port, path string) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	help, err := exec.CommandContext(ctx, "lego", "--help").Output()
	return legoFor(err == nil && !bytes.Contains(help, []byte("--server")), directory, port, path)
}

func legoFor(v5 bool, directory, port, path string) string {
	options := "--server " + directory + " --accept-tos --email you@example.com --path " + quote(path) + " --http"
	if v5 {
		return "lego run " + options + " --http.address 127.0.0.1:" + port + " -d lego.localhost"
	}
	return "lego " + options + " --http.port 127.0.0.1:" + port + " -d lego.localhost run"
}

// quote makes a path one word of a shell.
func quote(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		return !(letter || '0' <= r && r <= '9' || strings.ContainsRune("/._-+:@%,=", r))
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
