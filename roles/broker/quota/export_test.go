package quota

// Remembered returns how many budgets are in memory, and how many bytes their names
// have.
func (q *Quotas) Remembered() (budgets, bytes int) {
	t := q.table.Load()
	for i := range t.budgets.shards {
		s := &t.budgets.shards[i]
		s.mu.Lock()
		budgets += len(s.of)
		for key := range s.of {
			bytes += len(key.user) + len(key.clientID)
		}
		s.mu.Unlock()
	}
	return budgets, bytes
}
