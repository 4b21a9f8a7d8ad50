// Package metrics counts what the server does and shows it to Prometheus. It is
// the only one that knows Prometheus: the packages below tell of events, and a
// Metrics takes them.
package metrics

import (
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/privyseal/privyseal/internal/acme"
	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/scep"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/web"
)

// Metrics are what the server counts, in a registry of its own. Labels come from
// routes, configuration and tables; nothing that a client chooses becomes one. All
// of its methods may be called at the same time.
type Metrics struct {
	registry *prometheus.Registry

	requests *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	open     *prometheus.GaugeVec
	refused  *prometheus.CounterVec
	broken   *prometheus.CounterVec

	issuances *prometheus.CounterVec
	issuing   *prometheus.HistogramVec

	acmeWork *prometheus.CounterVec
	acmeTook *prometheus.HistogramVec
	scepSeen *prometheus.CounterVec
	scepTook *prometheus.HistogramVec

	signatures *prometheus.CounterVec
	signing    *prometheus.HistogramVec
	waiting    *prometheus.GaugeVec

	lists     *prometheus.CounterVec
	listTook  *prometheus.HistogramVec
	listDelay *prometheus.HistogramVec
	revoked   *prometheus.HistogramVec

	reloads  *prometheus.CounterVec
	purged   *prometheus.CounterVec
	expires  *prometheus.GaugeVec
	insecure prometheus.Gauge
}

const namespace = "privyseal"

// latencies reach from a cached answer to the deadline of an issuance, and delays
// from a list that is made at once to one that is made in turn; in seconds.
var (
	latencies = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20}
	delays    = []float64{.25, .5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 48 * 3600}
)

// New returns the metrics of a server of a version. WatchStore, WatchLists and
// WatchOCSP add what others count by themselves.
func New(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	process := collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})
	m.registry.MustRegister(collectors.NewGoCollector(), process)
	m.gauge("build_info", "Always 1.", "version").WithLabelValues(version).Set(1)

	m.requests = m.counter("http_requests_total", "Requests answered.", "listener", "method", "route", "code")
	m.latency = m.histogram("http_request_seconds", "Time from the end of a request's header to the end of its answer.",
		latencies, "listener", "route")
	m.open = m.gauge("connections_open", "Connections that are open.", "listener")
	m.refused = m.counter("connections_refused_total", "Connections closed unserved.", "listener", "reason")
	m.broken = m.counter("tls_handshake_failures_total", "TLS handshakes that failed.", "listener", "reason")
	m.issuances = m.counter("issuances_total", "Calls of the issuance pipeline by outcome.",
		"profile", "protocol", "issuer", "result")
	m.issuing = m.histogram("issuance_seconds", "Time of one issuance, the signature included.",
		latencies, "protocol", "result")
	m.acmeWork = m.counter("acme_work_total", "Finished validations by challenge type, and finalizes.",
		"work", "outcome")
	m.acmeTook = m.histogram("acme_work_seconds", "Time of one validation attempt or finalize.", latencies, "work")
	m.scepSeen = m.counter("scep_messages_total", "SCEP operations answered, by kind of message and status.",
		"endpoint", "message", "status")
	m.scepTook = m.histogram("scep_message_seconds", "Time of one SCEP operation.", latencies, "message")

	m.signatures = m.counter("key_operations_total", "Operations of a private key.", "key", "op", "outcome")
	m.signing = m.histogram("key_operation_seconds", "Time of one operation of a private key, waiting included.",
		latencies, "key", "op")
	m.waiting = m.gauge("key_waiting", "Callers that wait for a private key.", "key")

	m.lists = m.counter("crl_attempts_total", "Attempts to publish a revocation list, and imports.",
		"issuer", "kind", "outcome")
	m.listTook = m.histogram("crl_build_seconds", "Time to build and publish one revocation list.",
		latencies, "issuer", "kind")
	m.listDelay = m.histogram("revocation_to_crl_seconds", "Time from a revocation to the list that has it.",
		delays, "issuer")
	m.revoked = m.histogram("revocation_ocsp_seconds", "Time from a revocation until this node's OCSP answers know it.",
		latencies, "issuer")

	m.reloads = m.counter("config_reloads_total", "Reloads of the configuration.", "outcome")
	m.purged = m.counter("purged_rows_total", "Expired rows deleted.", "table")
	m.expires = m.gauge("issuer_not_after_seconds", "When an issuer's certificate expires, in Unix time.", "issuer")
	insecure := m.gauge("insecure_mode", "1 if a self-signed CA issues by itself: privyseal dev --tiers 1.")
	m.insecure = insecure.WithLabelValues()
	return m
}

func (m *Metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	opts := prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}
	v := prometheus.NewHistogramVec(opts, labels)
	m.registry.MustRegister(v)
	return v
}

// Handler shows everything, in the format that Prometheus reads.
func (m *Metrics) Handler(log *slog.Logger) http.Handler {
	opts := promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError)}
	return promhttp.HandlerFor(m.registry, opts)
}

// WatchStore adds what the store counts by itself.
func (m *Metrics) WatchStore(s *store.Store) {
	for _, c := range []struct {
		name, help string
		count      func() int64
	}{
		{"store_commits_total", "Transactions committed.", func() int64 { return s.Stats().Commits }},
		{"store_rows_total", "Rows inserted, changed or deleted.", func() int64 { return s.Stats().Rows }},
	} {
		opts := prometheus.CounterOpts{Namespace: namespace, Name: c.name, Help: c.help}
		m.registry.MustRegister(prometheus.NewCounterFunc(opts, func() float64 { return float64(c.count()) }))
	}
}

// Request counts an answer of a listener.
func (m *Metrics) Request(e web.Event) {
	m.requests.WithLabelValues(e.Listener, e.Method, e.Route, strconv.Itoa(e.Status)).Inc()
	m.latency.WithLabelValues(e.Listener, e.Route).Observe(e.Took.Seconds())
}

// Connection counts what happens to a connection.
func (m *Metrics) Connection(c web.Connection) {
	switch c.What {
	case web.Opened:
		m.open.WithLabelValues(c.Listener).Inc()
	case web.Closed:
		m.open.WithLabelValues(c.Listener).Dec()
	case web.Refused:
		m.refused.WithLabelValues(c.Listener, c.Reason).Inc()
	case web.HandshakeFailed:
		m.broken.WithLabelValues(c.Listener, c.Reason).Inc()
	}
}

// Key returns the observer of one private key, by the name of what it is for.
func (m *Metrics) Key(name string) func(keys.Event) {
	return func(e keys.Event) {
		outcome := "ok"
		if e.Err != nil {
			outcome = fault.Of(e.Err).Kind.String()
		}
		m.signatures.WithLabelValues(name, e.Op, outcome).Inc()
		m.signing.WithLabelValues(name, e.Op).Observe(e.Duration.Seconds())
		m.waiting.WithLabelValues(name).Set(float64(e.Waiting))
	}
}

// Issuance counts a call of the issuance pipeline.
func (m *Metrics) Issuance(o issuance.Outcome) {
	m.issuances.WithLabelValues(o.Profile, o.Protocol, o.IssuerID, o.Result).Inc()
	m.issuing.WithLabelValues(o.Protocol, o.Result).Observe(o.Took.Seconds())
}

// ACME counts a validation that has ended, or a finalize.
func (m *Metrics) ACME(e acme.Event) {
	m.acmeWork.WithLabelValues(e.What, e.Outcome).Inc()
	m.acmeTook.WithLabelValues(e.What).Observe(e.Took.Seconds())
}

// SCEP counts an operation of SCEP.
func (m *Metrics) SCEP(e scep.Event) {
	m.scepSeen.WithLabelValues(e.Endpoint, e.Message, e.Status).Inc()
	m.scepTook.WithLabelValues(e.Message).Observe(e.Took.Seconds())
}

// List counts an attempt to publish a revocation list.
func (m *Metrics) List(e crl.Event) {
	m.lists.WithLabelValues(e.Issuer, e.Kind, e.Outcome).Inc()
	if e.Kind != "imported" {
		m.listTook.WithLabelValues(e.Issuer, e.Kind).Observe(e.Took.Seconds())
	}
	for _, d := range e.Latencies {
		m.listDelay.WithLabelValues(e.Issuer).Observe(d.Seconds())
	}
}

// RevocationSeen observes how long after a revocation OCSP answers know it.
func (m *Metrics) RevocationSeen(issuer string, after time.Duration) {
	m.revoked.WithLabelValues(issuer).Observe(max(after, 0).Seconds())
}

// Reload counts a reload of the configuration by its outcome, "ok" or "refused".
func (m *Metrics) Reload(outcome string) { m.reloads.WithLabelValues(outcome).Inc() }

// Purged counts expired rows that were deleted.
func (m *Metrics) Purged(table string, rows int64) {
	m.purged.WithLabelValues(table).Add(float64(rows))
}

// Issuers says when the certificates of the issuers that are in use end, by id.
func (m *Metrics) Issuers(ends map[string]time.Time) {
	m.expires.Reset()
	for id, end := range ends {
		m.expires.WithLabelValues(id).Set(float64(end.Unix()))
	}
}

// Insecure says that a self-signed CA issues by itself.
func (m *Metrics) Insecure() { m.insecure.Set(1) }
