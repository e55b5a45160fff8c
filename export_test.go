package descopehttp

// Methods returns the method of each path that Handler serves.
func Methods() map[string]string {
	methods := make(map[string]string)
	for path, rt := range routes {
		methods[path] = rt.method
	}
	return methods
}
