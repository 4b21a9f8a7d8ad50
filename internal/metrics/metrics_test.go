package metrics

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// names are all metrics of our own with their labels. Dashboards and alerts of
// operators name them: one that goes or changes is a line of the change log.
const names = `
privyseal_acme_work_seconds{work}
privyseal_acme_work_total{work,outcome}
privyseal_build_info{version}
privyseal_config_reloads_total{outcome}
privyseal_crl_age_seconds{list}
privyseal_crl_alarm{list}
privyseal_crl_attempts_total{issuer,kind,outcome}
privyseal_crl_build_seconds{issuer,kind}
privyseal_crl_bytes{list}
privyseal_crl_entries{list}
privyseal_crl_left_seconds{list}
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
`

// TestNamesStay: the names are what others build on.
func TestNamesStay(t *testing.T) {
	t.Parallel()
	m := New("test")
	m.WatchStore(nil)
	m.WatchLists(nil, time.Now)
	m.WatchOCSP(nil, nil)
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
