package config

// checkCache finds the folder of the cache, which is made if it is not there.
func (d *decoder) checkCache(c *Config) {
	s := &c.Cache
	if s.Disk != "" && !d.bad["cache.disk"] {
		s.Disk = join(d.dir, s.Disk)
	}
	if s.Disk == "" && d.says("cache.disk_size") {
		d.warn(c, "cache.disk_size", "has no effect without cache.disk")
	}
	if n := d.places["cache.max_object"]; s.MaxObject > s.Size/2 && !d.bad["cache.max_object"] {
		d.report(n, "cache.max_object", "larger than half of cache.size, so that two answers would displace all others; write less")
	}
}
