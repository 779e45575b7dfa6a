package scrape

import (
	"encoding/hex"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pillion-proxy/pillion/proxy/metrics"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// histogram is a metrics.Histogram as Prometheus wants it: classic and native at once. Scrapers that take text see the classic one.
type histogram struct {
	desc *prometheus.Desc
	h    *metrics.Histogram
}

// Desc implements prometheus.Metric.
func (m *histogram) Desc() *prometheus.Desc { return m.desc }

// Write implements prometheus.Metric.
func (m *histogram) Write(out *dto.Metric) error {
	labels, err := m.labels()
	if err != nil {
		return err
	}
	out.Label = labels
	h := &dto.Histogram{SampleCount: &m.h.Count, SampleSum: &m.h.Sum, Schema: ptr(int32(metrics.Schema)), ZeroThreshold: ptr(0.0), ZeroCount: &m.h.Zero}
	var total uint64
	for i := range metrics.Bounds {
		total += m.h.Classic[i]
		h.Bucket = append(h.Bucket, &dto.Bucket{CumulativeCount: ptr(total), UpperBound: ptr(metrics.Bounds[i])})
	}
	if x := m.h.Exemplar; x.At != 0 {
		at := timestamppb.New(time.Now().Add(-task.Now().Sub(x.At)))
		one := &dto.Exemplar{Label: []*dto.LabelPair{{Name: ptr("trace_id"), Value: ptr(hex.EncodeToString(x.Trace[:]))}}, Value: ptr(x.Took.Seconds()), Timestamp: at}
		h.Exemplars = []*dto.Exemplar{one}
		for i := range metrics.Bounds {
			if x.Took.Seconds() <= metrics.Bounds[i] {
				h.Bucket[i].Exemplar = one
				break
			}
		}
	}
	var before int64
	for _, n := range m.h.Buckets {
		h.PositiveDelta = append(h.PositiveDelta, int64(n)-before)
		before = int64(n)
	}
	h.PositiveSpan = []*dto.BucketSpan{{Offset: ptr(int32(m.h.First)), Length: ptr(uint32(len(m.h.Buckets)))}}
	out.Histogram = h
	return nil
}

// labels are those of the description, in the form of a metric.
func (m *histogram) labels() ([]*dto.LabelPair, error) {
	var plain dto.Metric
	c, err := prometheus.NewConstMetric(m.desc, prometheus.GaugeValue, 0)
	if err != nil {
		return nil, err
	}
	err = c.Write(&plain)
	return plain.Label, err
}

func ptr[T any](v T) *T { return &v }
