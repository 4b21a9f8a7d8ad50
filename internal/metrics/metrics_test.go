package metrics

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/privyseal/privyseal/internal/acme"
	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/scep"
	"github.com/privyseal/privyseal/internal/web"
)

// names are all metrics of our own with their labels. Dashboards and alerts of
// operators name them: one that goes or changes is a line of the change log.
const names = `
privyseal_acme_work_seconds{work}
privyseal_acme_work_total{work,outcome}
privyseal_build_info{version}
privyseal_config_reloads_total{outcome}
privyseal_connections_open{listener}
privyseal_connections_refused_total{listener,reason}
privyseal_crl_age_seconds{list}
privyseal_crl_alarm{list}
privyseal_crl_attempts_total{issuer,kind,outcome}
privyseal_crl_build_seconds{issuer,kind}
privyseal_crl_bytes{list}
privyseal_crl_entries{list}
privyseal_crl_left_seconds{list}
privyseal_ends_timestamp_seconds{kind,id}
privyseal_http_request_seconds{listener,route}
privyseal_http_requests_total{listener,method,route,code}
privyseal_insecure_mode{}
privyseal_issuance_seconds{protocol,result}
privyseal_issuances_total{profile,protocol,issuer,result}
privyseal_issuer_not_after_seconds{issuer}
privyseal_key_operation_seconds{key,op}
privyseal_key_operations_total{key,op,outcome}
privyseal_key_waiting{key}
privyseal_ocsp_answers_kept_bytes{issuer}
privyseal_ocsp_answers_kept{issuer}
privyseal_ocsp_answers_total{issuer,how}
privyseal_ocsp_failures_total{issuer}
privyseal_ocsp_requests_total{issuer,method}
privyseal_ocsp_responder_alarm{issuer}
privyseal_ocsp_responder_not_after_seconds{issuer}
privyseal_ocsp_responses_total{issuer,status}
privyseal_purged_rows_total{table}
privyseal_revocation_ocsp_seconds{issuer}
privyseal_revocation_to_crl_seconds{issuer}
privyseal_scep_message_seconds{message}
privyseal_scep_messages_total{endpoint,message,status}
privyseal_store_commits_total{}
privyseal_store_rows_total{}
privyseal_tls_handshake_failures_total{listener,reason}
`

// TestNamesStay: the names are what others build on.
func TestNamesStay(t *testing.T) {
	t.Parallel()
	m := New("test")
	m.WatchStore(nil)
	m.WatchLists(nil, time.Now)
	m.WatchOCSP(nil, nil)
	m.WatchEnds(nil)
	described := make(chan *prometheus.Desc, 1000)
	m.registry.Describe(described)
	close(described)
	form := regexp.MustCompile(`fqName: "(privyseal_\w+)".* variableLabels: (\{[\w,]*\})`)
	var got []string
	for d := range described {
		if parts := form.FindStringSubmatch(d.String()); parts != nil {
			got = append(got, parts[1]+parts[2])
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(strings.Fields(names), got); diff != "" {
		t.Error(diff)
	}
}

// TestEvents: each event is counted under its labels, and an issuer that is not in
// use any more is not shown.
func TestEvents(t *testing.T) {
	t.Parallel()
	m := New("test")
	m.Request(web.Event{Listener: "http", Method: "GET", Route: "/roots", Status: 200, Took: time.Second})
	m.Key("a")(keys.Event{Op: "sign", Duration: time.Second, Waiting: 3})
	m.Key("a")(keys.Event{Op: "sign", Err: errors.New("no")})
	m.Issuance(issuance.Outcome{Profile: "p", Protocol: "est", IssuerID: "a", Result: "issued"})
	m.ACME(acme.Event{What: "finalize", Outcome: "valid"})
	m.SCEP(scep.Event{Endpoint: "scep", Message: "PKCSReq", Status: "SUCCESS"})
	m.List(crl.Event{
		Issuer: "a", Kind: "full", Outcome: "published", Latencies: []time.Duration{time.Second, time.Minute},
	})
	m.List(crl.Event{Issuer: "r", Kind: "imported", Outcome: "published"})
	m.RevocationSeen("a", -time.Second)
	m.Reload("refused")
	m.Purged("orders", 5)
	m.Issuers(map[string]time.Time{"a": time.Unix(7, 0), "b": time.Unix(8, 0)})
	m.Issuers(map[string]time.Time{"b": time.Unix(9, 0)})
	m.Insecure()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	m.Handler(slog.New(slog.DiscardHandler)).ServeHTTP(w, r)
	told := "\n" + w.Body.String()
	for _, want := range []string{
		`build_info{version="test"} 1`, `http_requests_total{code="200",listener="http",method="GET",route="/roots"} 1`,
		`http_request_seconds_sum{listener="http",route="/roots"} 1`,
		`key_operations_total{key="a",op="sign",outcome="ok"} 1`,
		`key_operations_total{key="a",op="sign",outcome="internal"} 1`,
		`key_operation_seconds_count{key="a",op="sign"} 2`, `key_waiting{key="a"} 0`,
		`issuances_total{issuer="a",profile="p",protocol="est",result="issued"} 1`,
		`acme_work_total{outcome="valid",work="finalize"} 1`,
		`scep_messages_total{endpoint="scep",message="PKCSReq",status="SUCCESS"} 1`,
		`crl_attempts_total{issuer="r",kind="imported",outcome="published"} 1`,
		`crl_build_seconds_count{issuer="a",kind="full"} 1`, `revocation_to_crl_seconds_sum{issuer="a"} 61`,
		`revocation_ocsp_seconds_sum{issuer="a"} 0`, `config_reloads_total{outcome="refused"} 1`,
		`purged_rows_total{table="orders"} 5`, `issuer_not_after_seconds{issuer="b"} 9`, `insecure_mode 1`,
	} {
		if !strings.Contains(told, "\nprivyseal_"+want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	for _, not := range []string{`issuer_not_after_seconds{issuer="a"}`, `crl_build_seconds_count{issuer="r"`} {
		if strings.Contains(told, not) {
			t.Errorf("shows %s", not)
		}
	}
	if t.Failed() {
		t.Log(told)
	}
}
