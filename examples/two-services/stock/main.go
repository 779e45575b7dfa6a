// Command stock is one of the two apps: it knows how many there are of everything, and says who asked. It knows nothing of pillion.
package main

import (
	"fmt"
	"log"
	"net/http"
)

const addr = "127.0.0.1:17200"

func main() {
	left := map[string]int{"saddle": 3, "stirrup": 8}
	http.HandleFunc("GET /items/{item}", func(w http.ResponseWriter, r *http.Request) {
		item := r.PathValue("item")
		caller := r.Header.Get("X-Pillion-Identity") // set by the sidecar, which has checked it; nobody else can
		if caller == "" {
			caller = "somebody"
		}
		fmt.Fprintf(w, "%d of %s, asked for by %s\n", left[item], item, caller)
	})
	log.Fatal(http.ListenAndServe(addr, nil))
}
