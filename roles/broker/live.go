package broker

import (
	"time"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/roles/broker/quota"
)

// Live is what of [Options] may change while the broker serves.
type Live struct {
	AutoCreate        bool
	MaxConnectionRate float64
	// Configs is what the configuration says, as of Options.Configs.
	Configs []configs.BrokerValue
	// UploadInterval and UploadBytes are those of upload.Limits; 0: they stay.
	UploadInterval time.Duration
	UploadBytes    int64
	// CompactionBandwidth is that of Compaction and Cleaning; negative: it stays.
	CompactionBandwidth int64
}

// SetLive changes what the broker obeys from now on.
func (b *Broker) SetLive(l Live) {
	was := b.live.Swap(&l)
	if was == nil || was.MaxConnectionRate != l.MaxConnectionRate {
		rate := quota.One(quota.Connection, l.MaxConnectionRate)
		b.arrivals.all.Store(&rate)
	}
	if b.uploader != nil && l.UploadInterval > 0 && l.UploadBytes > 0 {
		b.uploader.SetPace(l.UploadInterval, l.UploadBytes)
	}
	if l.CompactionBandwidth < 0 {
		return
	}
	if b.compactor != nil {
		b.compactor.SetBandwidth(l.CompactionBandwidth)
	}
	if b.cleaner != nil {
		b.cleaner.SetBandwidth(l.CompactionBandwidth)
	}
}
