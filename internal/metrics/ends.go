package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/privyseal/privyseal/internal/health"
)

// endsCollector tells when everything that ends does, at the time of each scrape.
type endsCollector struct {
	ends func() []health.End
	desc *prometheus.Desc
}

// WatchEnds adds what is known of ends.
func (m *Metrics) WatchEnds(ends func() []health.End) {
	m.registry.MustRegister(&endsCollector{ends, prometheus.NewDesc(
		"privyseal_ends_timestamp_seconds",
		"When something ends, in Unix time: a CA's certificate (ca), a list (list), "+
			"a certificate of the server's own (responder, tls, ra).",
		[]string{"kind", "id"}, nil,
	)})
}

// Describe implements prometheus.Collector.
func (c *endsCollector) Describe(out chan<- *prometheus.Desc) { out <- c.desc }

// Collect implements prometheus.Collector.
func (c *endsCollector) Collect(out chan<- prometheus.Metric) {
	for _, e := range c.ends() {
		out <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(e.At.Unix()), e.Kind, e.ID)
	}
}
