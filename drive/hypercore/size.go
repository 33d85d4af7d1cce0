package hypercore

// StoredBytes returns the size of the blocks that are stored. If some are missing, it looks at each that is there.
func (f *Feed) StoredBytes() (sum uint64, err error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.have == f.head.Length {
		return f.head.Bytes, nil
	}
	for number, page := range f.data {
		for at, b := range page {
			for bit := 0; b != 0; bit, b = bit+1, b<<1 {
				if b&0x80 == 0 {
					continue
				}
				leaf, err := f.node(2 * (8*(number*pageBytes+uint64(at)) + uint64(bit)))
				if err != nil {
					return 0, err
				}
				sum += leaf.Size
			}
		}
	}
	return sum, nil
}
