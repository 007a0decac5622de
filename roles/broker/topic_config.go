package broker

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/log"
)

type topicKey struct {
	name, fallback, doc string
	kind                kmsg.ConfigType
}

func topicKeys() []topicKey {
	return []topicKey{
		{"compression.type", "producer", "", kmsg.ConfigTypeString},
		{"max.message.bytes", "1048588", "", kmsg.ConfigTypeInt},
		{"message.timestamp.after.max.ms", "3600000", "", kmsg.ConfigTypeLong},
		{"message.timestamp.before.max.ms", "9223372036854775807", "", kmsg.ConfigTypeLong},
		{"message.timestamp.type", "CreateTime", "", kmsg.ConfigTypeString},
	}
}

// logConfig returns what the log of a partition is to do. Values were checked
// when they were set; one that cannot be read counts as not set.
func logConfig(t *metadata.Topic, p *metadata.Partition) log.Config {
	value := func(key string) string {
		if v, ok := t.Configs[key]; ok {
			return v
		}
		for _, k := range topicKeys() {
			if k.name == key {
				return k.fallback
			}
		}
		return ""
	}
	c := log.Config{
		MaxMessageBytes:    int(number(value("max.message.bytes"))),
		TimestampAfterMax:  millis(value("message.timestamp.after.max.ms")),
		TimestampBeforeMax: millis(value("message.timestamp.before.max.ms")),
		MinInSync:          t.MinISR(p),
	}
	if strings.EqualFold(value("message.timestamp.type"), "LogAppendTime") {
		c.TimestampType = batch.LogAppendTime
	}
	c.Codec, c.Recompress = codecOf(value("compression.type"))
	return c
}

// codecOf returns the codec of a compression.type; false: the producer's is kept.
func codecOf(name string) (codec batch.Codec, recompress bool) {
	switch strings.ToLower(name) {
	case "none", "uncompressed":
		return batch.None, true
	case "gzip":
		return batch.Gzip, true
	case "snappy":
		return batch.Snappy, true
	case "lz4":
		return batch.LZ4, true
	case "zstd":
		return batch.Zstd, true
	}
	return batch.None, false
}

func number(value string) int64 {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// millis reads a duration in milliseconds; what no clock reaches is no bound.
func millis(value string) time.Duration {
	n := number(value)
	if n > math.MaxInt64/int64(time.Millisecond) {
		return 0
	}
	return time.Duration(n) * time.Millisecond
}
