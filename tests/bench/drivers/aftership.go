// AfterShip's verifier as its documentation shows it. `peer FILE AT_ONCE`: FILE is a JSON array of addresses; prints
// how long it took and how many were found to be reachable.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	emailverifier "github.com/AfterShip/email-verifier"
)

func main() {
	var emails []string
	text, err := os.ReadFile(os.Args[1])
	if err == nil {
		err = json.Unmarshal(text, &emails)
	}
	atOnce, wrong := strconv.Atoi(os.Args[2])
	if err != nil || wrong != nil {
		panic(fmt.Sprint(err, wrong))
	}
	verifier := emailverifier.NewVerifier().EnableSMTPCheck().HelloName("probe.test").FromEmail("probe@probe.test")
	var next, valid atomic.Int64
	var all sync.WaitGroup
	started := time.Now()
	for range atOnce {
		all.Add(1)
		go func() {
			defer all.Done()
			for at := next.Add(1) - 1; at < int64(len(emails)); at = next.Add(1) - 1 {
				found, err := verifier.Verify(emails[at])
				if err == nil && found.Reachable == "yes" {
					valid.Add(1)
				}
			}
		}()
	}
	all.Wait()
	fmt.Printf("{\"seconds\": %f, \"valid\": %d}\n", time.Since(started).Seconds(), valid.Load())
}
