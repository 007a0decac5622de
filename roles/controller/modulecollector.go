package controller

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

// moduleBatch bounds what one step of the moduleCollector asks for.
const moduleBatch = 100

// namedModules is what the moduleCollector looks at: [*metadata.Image].
type namedModules interface {
	Offset() uint64
	NamesModule(sha256 string) bool
	UnnamedModules() iter.Seq2[string, bool]
}

// moduleCollector decides which bytes of modules leave the bucket. It is a core: no clock, no
// bucket. It measures from when it first saw that nothing names them.
type moduleCollector struct {
	grace     time.Duration
	unnamed   map[string]time.Time // by SHA-256
	condemned map[string]uint64    // offset of the image in which that was first seen
	found     map[string]struct{}  // in the bucket, when last listed, and known to no image
}

func newModuleCollector(grace time.Duration) *moduleCollector {
	return &moduleCollector{grace: grace, unnamed: map[string]time.Time{}, condemned: map[string]uint64{}, found: map[string]struct{}{}}
}

// moduleCollection is what one step asks for.
type moduleCollection struct {
	Condemn []string
	Delete  []string
	Ship    uint64 // see collection
}

// listed tells what a listing of the bucket shows.
func (c *moduleCollector) listed(hashes []string) {
	c.found = map[string]struct{}{}
	for _, hash := range hashes {
		c.found[hash] = struct{}{}
	}
}

// step looks at the metadata, of which the bucket has what comes up to shipped.
func (c *moduleCollector) step(now time.Time, image namedModules, shipped uint64) (do moduleCollection) {
	unnamed, condemned := map[string]time.Time{}, map[string]uint64{}
	wait := func(hash string) {
		since, known := c.unnamed[hash]
		if !known {
			since = now
		}
		unnamed[hash] = since
		if guard.Check("controller.module-grace", now.Sub(since) >= c.grace) && len(do.Condemn) < moduleBatch {
			do.Condemn = append(do.Condemn, hash)
		}
	}
	for hash, is := range image.UnnamedModules() {
		if !is {
			wait(hash)
			continue
		}
		at, known := c.condemned[hash]
		if !known {
			at = image.Offset()
		}
		condemned[hash] = at
		switch {
		case !guard.Check("controller.module-condemned-in-bucket", shipped >= at):
			do.Ship = max(do.Ship, at)
		case len(do.Delete) < moduleBatch:
			do.Delete = append(do.Delete, hash)
		}
	}
	for _, hash := range slices.Sorted(maps.Keys(c.found)) {
		_, waits := unnamed[hash]
		if _, goes := condemned[hash]; waits || goes {
			continue
		}
		if guard.Check("controller.named-module-kept", image.NamesModule(hash)) {
			delete(c.found, hash)
			continue
		}
		wait(hash)
	}
	c.unnamed, c.condemned = unnamed, condemned
	return do
}

// gone notes that bytes are no more in the bucket.
func (c *moduleCollector) gone(hash string) { delete(c.found, hash) }

// collectModules carries out one step of the moduleCollector.
func (k *keeper) collectModules(ctx context.Context) error {
	if k.c.state.Image().FeatureLevel() < metadata.TransformsFeatureLevel {
		return nil
	}
	if err := k.c.node.Barrier(ctx); err != nil {
		return err
	}
	image := k.c.state.Image()
	do := k.modules.step(time.Now(), image, k.shipper.Shipped())
	var errs []error
	if len(do.Condemn) > 0 {
		_, err := k.c.propose(ctx, metadata.NewCollectModules(do.Condemn, false))
		errs = append(errs, err)
	}
	if len(do.Condemn) > 0 || do.Ship > k.shipper.Shipped() {
		k.shipper.Hurry()
	}
	var deleted []string
	for _, hash := range do.Delete {
		if err := k.shipper.Fenced(); !guard.Check("controller.fenced-module-delete", err == nil) {
			errs = append(errs, err)
			break
		}
		if err := k.o.Bucket.Delete(ctx, object.ModuleKey(k.o.Prefix, image.ClusterID(), hash)); err != nil {
			errs = append(errs, fmt.Errorf("delete module %x: %w", hash, err))
			break
		}
		k.modules.gone(hash)
		deleted = append(deleted, hash)
	}
	if len(deleted) > 0 {
		_, err := k.c.propose(ctx, metadata.NewCollectModules(deleted, true))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// listModules looks for bytes of modules that nothing ever named: their deployment ended
// half-way.
func (k *keeper) listModules(ctx context.Context) error {
	var hashes []string
	cluster := k.c.Image().ClusterID()
	err := k.o.Bucket.List(ctx, object.ModulePrefix(k.o.Prefix, cluster), "", func(i bucket.Info) bool {
		if hash, err := object.ParseModuleKey(k.o.Prefix, cluster, i.Key); err == nil {
			hashes = append(hashes, hash)
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("list the modules in the bucket: %w", err)
	}
	k.modules.listed(hashes)
	return nil
}
