package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/privyseal/privyseal/internal/ocsp"
	"github.com/privyseal/privyseal/internal/owncert"
)

// ocspCollector reads what the responder counts by itself: its hot path touches
// no vector of labels.
type ocspCollector struct {
	server *ocsp.Server
	states func() map[string]owncert.Health

	requests, responses, answers, failures, kept, octets, notAfter, alarm *prometheus.Desc
}

// WatchOCSP adds what a responder counts by itself. states tells of the responder
// certificates by the id of their CA.
func (m *Metrics) WatchOCSP(s *ocsp.Server, states func() map[string]owncert.Health) {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(namespace+"_ocsp_"+name, help, append([]string{"issuer"}, labels...), nil)
	}
	m.registry.MustRegister(&ocspCollector{
		server: s, states: states,
		requests:  desc("requests_total", "OCSP requests by HTTP method.", "method"),
		responses: desc("responses_total", "OCSP responses by status.", "status"),
		answers: desc("answers_total", "How answers came about: hit (from memory), "+
			"confirmed (from memory after the record was read), "+
			"stale (from memory while the key or the database was away), signed, "+
			"refreshed (signed anew in the background), removed (by a revocation).", "how"),
		failures: desc("failures_total", "Failures of the key or the database."),
		kept:     desc("answers_kept", "Answers in memory."),
		octets:   desc("answers_kept_bytes", "Memory that the answers take."),
		notAfter: desc("responder_not_after_seconds", "When the responder certificate in use expires, in Unix time."),
		alarm: desc("responder_alarm",
			"1 if the responder cannot sign, or its certificate expires soon or cannot be renewed."),
	})
}

// Describe implements prometheus.Collector.
func (c *ocspCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.requests, c.responses, c.answers, c.failures, c.kept, c.octets, c.notAfter, c.alarm,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *ocspCollector) Collect(out chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n int64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	for _, s := range c.server.Stats() {
		for method, n := range s.Methods {
			count(c.requests, n, s.IssuerID, method)
		}
		for status, n := range s.Responses {
			count(c.responses, n, s.IssuerID, status.String())
		}
		for how, n := range map[string]int64{
			"hit": s.Hits, "confirmed": s.Confirmed, "stale": s.Stale,
			"signed": s.Signed, "refreshed": s.Refreshed, "removed": s.Removed,
		} {
			count(c.answers, n, s.IssuerID, how)
		}
		count(c.failures, s.Failures, s.IssuerID)
		out <- prometheus.MustNewConstMetric(c.kept, prometheus.GaugeValue, float64(s.Kept), s.IssuerID)
		out <- prometheus.MustNewConstMetric(c.octets, prometheus.GaugeValue, float64(s.KeptSize), s.IssuerID)
	}
	for id, s := range c.states() {
		if !s.NotAfter.IsZero() {
			out <- prometheus.MustNewConstMetric(c.notAfter, prometheus.GaugeValue, float64(s.NotAfter.Unix()), id)
		}
		alarm := 0.0
		if s.Failed != nil || s.Warning != "" {
			alarm = 1
		}
		out <- prometheus.MustNewConstMetric(c.alarm, prometheus.GaugeValue, alarm, id)
	}
}
