package quota

// Remembered returns how many clients and buckets are in memory.
func (q *Quotas) Remembered() (clients, buckets int) {
	t := q.table.Load()
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.clients), len(t.buckets)
}
