package examples

import (
	"fmt"
	"net/http"
	"strings"
)

// put sends a request to the program and prints the answer's status.
func put(address, path, body string) {
	fmt.Println(request(http.MethodPut, address, path, body))
}

// post sends a request to the program.
func post(address, path string) {
	request(http.MethodPost, address, path, "")
}

func request(method, address, path, body string) (status string) {
	r, err := http.NewRequest(method, "http://"+address+path, strings.NewReader(body))
	check(err)
	response, err := http.DefaultClient.Do(r)
	check(err)
	check(response.Body.Close())
	return response.Status
}
