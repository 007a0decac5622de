package configs

import (
	"fmt"
	"net/url"
	"strconv"
)

// Metrics is what /metrics tells apart.
type Metrics struct {
	Partitions string `toml:"partitions" doc:"series of topics and of the lag of groups: off (lag by group alone, none of topics), topics (one for each topic), or all (one for each partition too)"`
}

// Tracing is where spans go, by OTLP over HTTP (protobuf).
type Tracing struct {
	Endpoint string `toml:"endpoint" doc:"URL of a collector of OpenTelemetry that takes OTLP over HTTP, e.g. http://127.0.0.1:4318; empty: nothing is traced"`
	Sample   string `toml:"sample" doc:"share of what carries no context of its own that is traced, 0 to 1; a batch whose first record has a traceparent is traced as that says"`
	Service  string `toml:"service" doc:"service.name of the spans"`
}

// SampleRatio is Sample as a number.
func (t Tracing) SampleRatio() (float64, error) {
	ratio, err := strconv.ParseFloat(t.Sample, 64)
	if err != nil || !(ratio >= 0 && ratio <= 1) {
		return 0, fmt.Errorf("%q is not a number from 0 to 1", t.Sample)
	}
	return ratio, nil
}

// traceEndpoint says what is wrong with the URL of a collector.
func traceEndpoint(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Sprintf("%q is no URL of a collector; write http://HOST:4318, or https", text)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "a URL of a collector has no user, query or fragment; what authenticates stands in OTEL_EXPORTER_OTLP_HEADERS"
	}
	return ""
}
