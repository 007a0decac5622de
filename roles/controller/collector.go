package controller

import (
	"iter"
	"slices"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// catalogue is what the collector looks at: [*metadata.Image].
type catalogue interface {
	NextObjectID() storage.ObjectID
	Object(storage.ObjectID) (*metadata.Object, bool)
	ObjectsIn(metadata.ObjectState) iter.Seq[*metadata.Object]
	NumObjects(metadata.ObjectState) int
	Dying() iter.Seq[*metadata.Dying]
}

// filed is what the manifests of a catalogue list. The catalogue itself knows nothing
// of these objects: without them nothing may be called an orphan.
type filed interface {
	// has reports whether a manifest lists the object, or may do so.
	has(storage.ObjectID) bool
}

// collectorLimits are the waits of a collector.
type collectorLimits struct {
	// Deadline is how long an upload may take, from when its id was first seen.
	Deadline time.Duration
	// Grace is between condemnation and deletion: longer than any reader holds on
	// to what it looked up.
	Grace time.Duration
	// Batch bounds what one step asks for.
	Batch int
	// Condemned is how many condemned ids the catalogue may hold for another manifest
	// to be dissolved: each brings thousands.
	Condemned int
}

// collector decides what is condemned, deleted and forgotten. It is a core: no
// clock, no bucket. It measures from when it first saw a state, so that a new
// controller waits longer and never shorter.
//
// Whatever it decides from an old image is still right: a condemned id is never
// committed again, and a forgotten one never issued again.
type collector struct {
	limits    collectorLimits
	prepared  map[storage.ObjectID]time.Time
	condemned map[storage.ObjectID]time.Time
	deleted   map[storage.ObjectID]struct{} // from the bucket, and not forgotten yet
	orphans   map[storage.ObjectID]time.Time
	dissolved storage.ObjectID // the last manifest that a step asked for
}

func newCollector(l collectorLimits) *collector {
	return &collector{
		limits: l, prepared: map[storage.ObjectID]time.Time{}, condemned: map[storage.ObjectID]time.Time{},
		deleted: map[storage.ObjectID]struct{}{}, orphans: map[storage.ObjectID]time.Time{},
	}
}

// collection is what one step asks for.
type collection struct {
	Condemn []storage.ObjectID
	Delete  []storage.ObjectID // to be reported by gone
	Forget  []storage.ObjectID
	// Dissolve are manifests to be read, whose objects are to be condemned.
	Dissolve []*metadata.Dying
	// Ship is the log index up to which the metadata log must stand in the bucket
	// before more can be deleted; 0: nothing waits for that.
	Ship uint64
}

// step looks at the catalogue. shipped is the index up to which the metadata log
// stands in the bucket.
func (c *collector) step(now time.Time, cat catalogue, shipped uint64) (do collection) {
	seen := make(map[storage.ObjectID]time.Time, len(c.prepared))
	for o := range cat.ObjectsIn(metadata.Prepared) {
		id := o.ID
		since, known := c.prepared[id]
		if !known {
			since = now
		}
		seen[id] = since
		if now.Sub(since) >= c.limits.Deadline && len(do.Condemn) < c.limits.Batch {
			do.Condemn = append(do.Condemn, id)
		}
	}
	c.prepared = seen
	do.Dissolve = c.dissolve(cat)

	seen = make(map[storage.ObjectID]time.Time, len(c.condemned))
	for o := range cat.ObjectsIn(metadata.Condemned) {
		id := o.ID
		since, known := c.condemned[id]
		if !known {
			since = now
		}
		seen[id] = since
		if _, deleted := c.deleted[id]; deleted {
			if len(do.Forget) < c.limits.Batch {
				do.Forget = append(do.Forget, id)
			}
			continue
		}
		if !guard.Check("controller.collect-grace", now.Sub(since) >= c.limits.Grace) {
			continue
		}
		// Whoever recovers the cluster from the bucket must not find an object named
		// that is gone (RULES 5.2).
		if !guard.Check("controller.collect-shipped", o.Since <= shipped) {
			do.Ship = max(do.Ship, o.Since)
			continue
		}
		if len(do.Delete) < c.limits.Batch {
			do.Delete = append(do.Delete, id)
		}
	}
	c.condemned = seen
	for id := range c.deleted {
		if _, still := seen[id]; !still {
			delete(c.deleted, id)
		}
	}
	return do
}

// dissolve chooses manifests, the next one after the last: one that cannot be read
// does not hold back the others.
func (c *collector) dissolve(cat catalogue) (chosen []*metadata.Dying) {
	room := c.limits.Condemned - cat.NumObjects(metadata.Condemned)
	var before []*metadata.Dying
	choose := func(d *metadata.Dying) {
		if room > 0 {
			chosen = append(chosen, d)
			c.dissolved = d.ID
		}
		room -= d.Ranges
	}
	last := c.dissolved
	for d := range cat.Dying() {
		if d.ID <= last {
			before = append(before, d)
		} else {
			choose(d)
		}
	}
	for _, d := range before {
		choose(d)
	}
	return chosen
}

// gone says that the bucket has deleted the object.
func (c *collector) gone(id storage.ObjectID) { c.deleted[id] = struct{}{} }

// audit is what a listing of the bucket shows beside the catalogue.
type audit struct {
	Orphans []storage.ObjectID // dead, and seen for long enough: to be deleted
	Foreign []storage.ObjectID // never issued: reported, and left
}

// listed compares a whole listing with a catalogue that is not older than it, and
// with what the manifests of that very catalogue list. An object that is in no state,
// in no manifest, and whose id was issued landed after its deletion: no command can
// name it any more, whatever was filed since. It goes once two listings, a grace apart, have
// shown it; a listing may lag.
func (c *collector) listed(now time.Time, ids []storage.ObjectID, cat catalogue, filed filed) (found audit) {
	seen := map[storage.ObjectID]time.Time{}
	for _, id := range ids {
		foreign, dead := judgeListed(id, cat, filed)
		if foreign {
			found.Foreign = append(found.Foreign, id)
		}
		if !dead {
			continue
		}
		since, known := c.orphans[id]
		if !known {
			since = now
		}
		seen[id] = since
		if now.Sub(since) >= c.limits.Grace && len(found.Orphans) < c.limits.Batch {
			found.Orphans = append(found.Orphans, id)
		}
	}
	c.orphans = seen
	slices.Sort(found.Orphans)
	return found
}

// shown is listed of a single object of a listing, the rest of which is not known:
// it reports whether the object is an orphan that is to be deleted.
func (c *collector) shown(now time.Time, id storage.ObjectID, cat catalogue, filed filed) bool {
	if _, dead := judgeListed(id, cat, filed); !dead {
		return false
	}
	since, known := c.orphans[id]
	if !known {
		since = now
		c.orphans[id] = since
	}
	return guard.Check("controller.repair-grace", now.Sub(since) >= c.limits.Grace)
}

// judgeListed says what an object of a listing is by a catalogue that is not older,
// and its manifests: foreign, if its id was never issued, or dead, if nothing can
// name it any more.
func judgeListed(id storage.ObjectID, cat catalogue, filed filed) (foreign, dead bool) {
	if !guard.Check("controller.orphan-issued", id < cat.NextObjectID()) {
		return true, false
	}
	_, known := cat.Object(id)
	return false, guard.Check("controller.orphan-unknown", !known) && guard.Check("controller.orphan-unfiled", !filed.has(id))
}
