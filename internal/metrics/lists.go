package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/privyseal/privyseal/internal/crl"
)

// listCollector tells of the revocation lists that this node serves, at the time
// of each scrape.
type listCollector struct {
	lists *crl.Publisher
	now   func() time.Time
	descs map[string]*prometheus.Desc
}

// WatchLists adds what is known of the lists.
func (m *Metrics) WatchLists(lists *crl.Publisher, now func() time.Time) {
	c := &listCollector{lists: lists, now: now, descs: map[string]*prometheus.Desc{}}
	for name, help := range map[string]string{
		"crl_age_seconds":  "Time since thisUpdate of the list that is served.",
		"crl_left_seconds": "Time until nextUpdate of the list that is served; negative when it has expired.",
		"crl_entries":      "Entries of the list that is served.",
		"crl_bytes":        "Length of the list that is served.",
		"crl_alarm":        "1 if the list is missing, expires soon, has expired, or its successor was refused.",
	} {
		c.descs[name] = prometheus.NewDesc(namespace+"_"+name, help, []string{"list"}, nil)
	}
	m.registry.MustRegister(c)
}

// Describe implements prometheus.Collector.
func (c *listCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *listCollector) Collect(out chan<- prometheus.Metric) {
	now := c.now()
	for _, s := range c.lists.Lists() {
		gauge := func(name string, value float64) {
			out <- prometheus.MustNewConstMetric(c.descs[name], prometheus.GaugeValue, value, s.Name)
		}
		alarm := 0.0
		if s.Refused != "" || s.State != crl.StateCurrent {
			alarm = 1
		}
		gauge("crl_alarm", alarm)
		if s.State == crl.StateMissing {
			continue
		}
		gauge("crl_age_seconds", now.Sub(s.ThisUpdate).Seconds())
		gauge("crl_left_seconds", s.NextUpdate.Sub(now).Seconds())
		gauge("crl_entries", float64(s.Entries))
		gauge("crl_bytes", float64(s.Size))
	}
}
