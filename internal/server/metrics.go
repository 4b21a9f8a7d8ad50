package server

import (
	"log/slog"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/privyseal/privyseal/internal/acme"
	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/web"
)

// metrics are what the server counts, in a registry of its own. Labels come from
// routes, configuration and tables; nothing that a client chooses becomes one.
type metrics struct {
	registry   *prometheus.Registry
	requests   *prometheus.CounterVec
	latency    *prometheus.HistogramVec
	issuances  *prometheus.CounterVec
	issuing    *prometheus.HistogramVec
	acmeWork   *prometheus.CounterVec
	acmeTook   *prometheus.HistogramVec
	signatures *prometheus.CounterVec
	signing    *prometheus.HistogramVec
	waiting    *prometheus.GaugeVec
	reloads    *prometheus.CounterVec
	purged     *prometheus.CounterVec
	expires    *prometheus.GaugeVec
	revoked    *prometheus.HistogramVec
	lists      *prometheus.CounterVec
	listTook   *prometheus.HistogramVec
	listDelay  *prometheus.HistogramVec
	insecure   prometheus.Gauge
}

// buckets reach from a cached answer to the deadline of an issuance.
var buckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20}

func newMetrics(version string) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "privyseal", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "privyseal", Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "privyseal", Name: name, Help: help, Buckets: buckets}, labels)
	}
	m := &metrics{
		registry:   prometheus.NewRegistry(),
		requests:   counter("http_requests_total", "Requests answered.", "listener", "method", "route", "code"),
		latency:    histogram("http_request_seconds", "Time from the end of a request's header to the end of its answer.", "listener", "route"),
		issuances:  counter("issuances_total", "Calls of the issuance pipeline by outcome.", "profile", "protocol", "issuer", "result"),
		issuing:    histogram("issuance_seconds", "Time of one issuance, the signature included.", "protocol", "result"),
		acmeWork:   counter("acme_work_total", "Finished validations by challenge type, and finalizes.", "work", "outcome"),
		acmeTook:   histogram("acme_work_seconds", "Time of one validation attempt or finalize.", "work"),
		signatures: counter("key_operations_total", "Operations of a private key.", "key", "op", "outcome"),
		signing:    histogram("key_operation_seconds", "Time of one operation of a private key, waiting included.", "key", "op"),
		waiting:    gauge("key_waiting", "Callers that wait for a private key.", "key"),
		reloads:    counter("config_reloads_total", "Reloads of the configuration.", "outcome"),
		purged:     counter("purged_rows_total", "Expired rows deleted.", "table"),
		revoked:    histogram("revocation_ocsp_seconds", "Time from a revocation until this node's OCSP answers know it.", "issuer"),
		expires:    gauge("issuer_not_after_seconds", "When an issuer's certificate expires, in Unix time.", "issuer"),
	}
	m.lists = counter("crl_attempts_total", "Attempts to publish a revocation list, and imports.", "issuer", "kind", "outcome")
	m.listTook = histogram("crl_build_seconds", "Time to build and publish one revocation list.", "issuer", "kind")
	m.listDelay = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "privyseal", Name: "revocation_to_crl_seconds", Help: "Time from a revocation to the list that has it.",
		Buckets: []float64{.25, .5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 48 * 3600},
	}, []string{"issuer"})
	m.registry.MustRegister(m.lists, m.listTook, m.listDelay)
	m.insecure = prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "privyseal", Name: "insecure_mode", Help: "1 if a self-signed CA issues by itself: privyseal dev --tiers 1.",
	})
	m.registry.MustRegister(m.insecure)
	build := gauge("build_info", "Always 1.", "version")
	build.WithLabelValues(version).Set(1)
	m.registry.MustRegister(m.requests, m.latency, m.issuances, m.issuing, m.acmeWork, m.acmeTook, m.signatures, m.signing,
		m.waiting, m.reloads, m.purged, m.expires, m.revoked, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// watchStore adds what the store counts by itself.
func (m *metrics) watchStore(s *store.Store) {
	m.registry.MustRegister(
		prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "privyseal", Name: "store_commits_total", Help: "Transactions committed."},
			func() float64 { return float64(s.Stats().Commits) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "privyseal", Name: "store_rows_total", Help: "Rows inserted, changed or deleted."},
			func() float64 { return float64(s.Stats().Rows) }),
	)
}

func (m *metrics) handler(log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError)})
}

func (m *metrics) request(e web.Event) {
	m.requests.WithLabelValues(e.Listener, e.Method, e.Route, strconv.Itoa(e.Status)).Inc()
	m.latency.WithLabelValues(e.Listener, e.Route).Observe(e.Took.Seconds())
}

// key returns the observer of one private key, by the name of what it is for.
func (m *metrics) key(name string) func(keys.Event) {
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
func (m *metrics) issuance(o issuance.Outcome) {
	m.issuances.WithLabelValues(o.Profile, o.Protocol, o.IssuerID, o.Result).Inc()
	m.issuing.WithLabelValues(o.Protocol, o.Result).Observe(o.Took.Seconds())
}

func (m *metrics) list(e crl.Event) {
	m.lists.WithLabelValues(e.Issuer, e.Kind, e.Outcome).Inc()
	if e.Kind != "imported" {
		m.listTook.WithLabelValues(e.Issuer, e.Kind).Observe(e.Took.Seconds())
	}
	for _, d := range e.Latencies {
		m.listDelay.WithLabelValues(e.Issuer).Observe(d.Seconds())
	}
}

func (m *metrics) acme(e acme.Event) {
	m.acmeWork.WithLabelValues(e.What, e.Outcome).Inc()
	m.acmeTook.WithLabelValues(e.What).Observe(e.Took.Seconds())
}
