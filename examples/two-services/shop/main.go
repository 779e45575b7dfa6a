// Command shop is the other app: it asks stock, by that name, over plain HTTP. Like most programs it sends its requests to
// HTTP_PROXY; that is all it does for pillion.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
)

const addr = "127.0.0.1:17100"

func main() {
	http.HandleFunc("GET /{item}", func(w http.ResponseWriter, r *http.Request) {
		answer, err := http.Get("http://stock/items/" + url.PathEscape(r.PathValue("item")))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		w.WriteHeader(answer.StatusCode)
		fmt.Fprint(w, "shop asked stock: ")
		if _, err := io.Copy(w, answer.Body); err != nil {
			panic(http.ErrAbortHandler) // cut short: the customer must not take it for the whole
		}
	})
	log.Fatal(http.ListenAndServe(addr, nil))
}
