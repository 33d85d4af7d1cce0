package serve

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// register adds the node's metrics. No label names a person, an address or a key.
func (n *Server) register(r *prometheus.Registry) {
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), newMetrics(n))
}

// metrics collects when it is asked.
type metrics struct {
	server *Server

	hyphas, full, writers, feeds, blocks, missing, stored, connections, sessions, received, sent, relayed, dropped, refused *prometheus.Desc
	unkept, cached, silent                                                                                                  *prometheus.Desc // with a bucket
}

func newMetrics(n *Server) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("hyphafs_"+name, help, labels, nil)
	}
	return &metrics{
		server:      n,
		hyphas:      desc("hyphas", "Hyphas that are kept."),
		full:        desc("hyphas_full", "Hyphas that reached --max-bytes."),
		writers:     desc("writers", "Writers of all Hyphas."),
		feeds:       desc("feeds", "Feeds that are kept."),
		blocks:      desc("blocks", "Blocks that are stored."),
		missing:     desc("blocks_missing", "Blocks that are signed and not stored."),
		stored:      desc("stored_bytes", "Bytes of the blocks that are stored."),
		connections: desc("connections", "Open connections, those that are no sessions yet among them."),
		sessions:    desc("sessions", "Peers that shook hands.", "kind"),
		received:    desc("received_bytes_total", "Bytes that came from peers."),
		sent:        desc("sent_bytes_total", "Bytes that went to peers."),
		relayed:     desc("ephemeral_relayed_total", "Secure-ephemeral messages that were passed on, each counted once."),
		dropped:     desc("dropped_total", "What was not taken from peers.", "reason"),
		refused:     desc("refused_total", "Peers that were not served.", "reason"),
		unkept:      desc("bucket_unkept_blocks", "Blocks that are in the cache and not in the bucket yet."),
		cached:      desc("bucket_cache_bytes", "Bytes of disk that the cache takes."),
		silent:      desc("bucket_away_seconds", "How long the bucket cannot be used; 0 if it can."),
	}
}

// Describe and Collect are prometheus.Collector.

// Describe lists the metrics.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect sends what they are now.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	t := m.server.totals()
	gauge(m.hyphas, t.hyphas)
	gauge(m.full, t.full)
	gauge(m.writers, t.writers)
	gauge(m.feeds, t.feeds)
	gauge(m.blocks, t.blocks)
	gauge(m.missing, t.missing)
	gauge(m.stored, t.stored)
	gauge(m.connections, float64(m.server.gate.Count()))
	for _, kind := range []string{"tcp", "ws"} {
		gauge(m.sessions, t.sessions[kind], kind)
	}
	count(m.received, t.received)
	count(m.sent, t.sent)
	count(m.relayed, t.relayed)
	for reason, v := range t.dropped {
		count(m.dropped, v, reason)
	}
	if b, ok := m.server.store.(*bucket); ok {
		st := b.archive.Status()
		gauge(m.unkept, float64(st.Unkept))
		gauge(m.cached, float64(st.Cache))
		gauge(m.silent, st.Away.Seconds())
	}
	r := &m.server.refused
	count(m.refused, r.unknownKey.Load(), "unknown_read_key")
	count(m.refused, r.unknownDiscovery.Load(), "unknown_discovery_key")
	count(m.refused, r.wantedAdoption.Load(), "adoption_over_tcp")
}

// totals is the sum over all Hyphas.
type totals struct {
	hyphas, full, writers, feeds, blocks, missing, stored float64
	sessions                                              map[string]float64
	received, sent, relayed                               uint64
	dropped                                               map[string]uint64
}

func (n *Server) totals() totals {
	t := totals{sessions: map[string]float64{}, dropped: map[string]uint64{}}
	for _, h := range n.hyphas() {
		t.hyphas++
		limit, full := h.room.limit()
		if full {
			t.full++
		}
		t.stored += float64(limit.Used)
		t.writers += float64(len(h.db.Writers()))
		for _, f := range h.feeds.List() {
			t.feeds++
			have := f.Have()
			t.blocks += float64(have)
			t.missing += float64(f.Len() - min(have, f.Len()))
		}
		for _, p := range h.node.Peers() {
			t.sessions[p.Kind]++
		}
		traffic, c := h.node.Traffic(), h.node.Counters()
		t.received += traffic.Received
		t.sent += traffic.Sent
		t.relayed += traffic.Relayed
		for reason, v := range map[string]uint64{
			"message_malformed": c.Malformed, "block_unasked": c.Unasked, "block_bad_proof": c.BadProofs, "block_without_room": c.Full,
			"feed_forked": c.Forks, "peer_clear": c.ClearRefused, "peer_of_another_hypha": c.OtherHypha, "request_unanswered": c.Unanswered,
			"ephemeral_too_long": c.ExtensionsTooLong, "ephemeral_limited": c.ExtensionsLimited, "ephemeral_repeated": c.ExtensionsRepeated,
			"ephemeral_not_taken": c.ExtensionsDropped, "ephemeral_elsewhere": c.ExtensionsElsewhere,
		} {
			t.dropped[reason] += v
		}
	}
	return t
}
