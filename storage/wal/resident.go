package wal

// Resident reports whether the frame is in memory at this moment.
func (w *WAL) Resident(ref Ref) bool { return w.find(ref) != nil }
