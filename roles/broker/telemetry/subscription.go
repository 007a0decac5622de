package telemetry

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/roles/broker/pattern"
)

// The interval between two pushes.
const (
	minInterval     = 100 * time.Millisecond
	maxInterval     = time.Hour
	defaultInterval = 5 * time.Minute // of a subscription, and of who has none
)

const (
	// maxListBytes bounds a list of a subscription: a client is told the prefixes of
	// all that match it.
	maxListBytes = 4 << 10
	// everyMetric stands for all metrics in a config; clients are told an empty prefix.
	everyMetric = "*"
)

// Subscription is what clients of some kind are to push.
type Subscription struct {
	prefixes []string // of names of metrics; of all: one empty
	interval time.Duration
	match    []selector
}

// selector is what one thing that is known of a client has to match.
type selector struct {
	of      func(*Client) string
	pattern *pattern.Pattern
}

// selectors are what clients may be told apart by, under Kafka's names.
var selectors = map[string]func(*Client) string{
	"client_instance_id":      func(c *Client) string { return encodeInstance(c.Instance) },
	"client_id":               func(c *Client) string { return c.ID },
	"client_software_name":    func(c *Client) string { return c.SoftwareName },
	"client_software_version": func(c *Client) string { return c.SoftwareVersion },
	"client_source_address":   func(c *Client) string { return c.Address },
	"client_source_port":      func(c *Client) string { return c.Port },
}

// Validate says why a subscription cannot have those configs, or nil.
func Validate(values map[string]string) error {
	_, err := Parse(values)
	return err
}

// Parse makes a subscription of its configs.
func Parse(values map[string]string) (*Subscription, error) {
	s := &Subscription{interval: defaultInterval}
	for key, value := range values {
		var err error
		switch key {
		case configs.ClientMetricsInterval:
			s.interval, err = parseInterval(value)
		case configs.ClientMetricsMetrics:
			s.prefixes, err = parseList(value)
			for i, prefix := range s.prefixes {
				if prefix == everyMetric {
					s.prefixes[i] = ""
				}
			}
		case configs.ClientMetricsMatch:
			s.match, err = parseMatch(value)
		default:
			return nil, configs.UnknownClientMetricsKey(key)
		}
		if err != nil {
			return nil, fmt.Errorf("client metrics config %s: %w", key, err)
		}
	}
	return s, nil
}

func parseInterval(value string) (time.Duration, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 32)
	if err != nil || n < minInterval.Milliseconds() || n > maxInterval.Milliseconds() {
		return 0, fmt.Errorf("%q is not a whole number from %d to %d", value, minInterval.Milliseconds(), maxInterval.Milliseconds())
	}
	return time.Duration(n) * time.Millisecond, nil
}

func parseList(value string) (items []string, err error) {
	if len(value) > maxListBytes {
		return nil, fmt.Errorf("a list of %d bytes, at most %d", len(value), maxListBytes)
	}
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items, nil
}

func parseMatch(value string) (match []selector, err error) {
	items, err := parseList(value)
	seen := map[string]bool{}
	for _, item := range items {
		key, source, ok := strings.Cut(item, "=")
		key = strings.TrimSpace(key)
		of, known := selectors[key]
		switch {
		case !ok:
			return nil, fmt.Errorf("%q is not key=pattern", item)
		case !known:
			return nil, fmt.Errorf("clients are not told apart by %q, but by client_instance_id, client_id, client_software_name, "+
				"client_software_version, client_source_address and client_source_port", key)
		case seen[key]:
			return nil, fmt.Errorf("%s is there twice", key)
		}
		seen[key] = true
		p, err := pattern.Compile(strings.TrimSpace(source))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		match = append(match, selector{of, p})
	}
	return match, err
}

func (s *Subscription) matches(c *Client) bool {
	for _, m := range s.match {
		if !m.pattern.MatchString(m.of(c)) {
			return false
		}
	}
	return true
}
