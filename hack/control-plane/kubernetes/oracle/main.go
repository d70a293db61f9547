// Oracle answers "which nodes may this pod use, why not the others, and how does each score?" with kube-scheduler's own
// plugins: one case a line on standard input, one result a line on standard output, both as JSON. The forms are those of
// `carbon-scheduler evaluate --cases`. It needs no API server and starts no informer.
//
//	oracle [-plugins A,B,... | -config FILE] [-preempt] < cases.jsonl
//	oracle -info
//
// Exit status 2 when a line was not a case.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"k8s.io/component-base/version"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
)

const maxLine = 64 << 20 // bytes

func main() {
	plugins := flag.String("plugins", "", "comma-separated: leave out every other filter and score of the default profile")
	file := flag.String("config", "", "a KubeSchedulerConfiguration: each pod is judged by the profile of its scheduler name")
	info := flag.Bool("info", false, "print the release, the plugins in the order in which they filter, and the weights")
	preempting := flag.Bool("preempt", false, "add what DefaultPreemption would do where no node is feasible")
	flag.Parse()
	silence()

	profiles, err := chosen(*file, listed(*plugins))
	var judge *judge
	if err == nil {
		judge, err = newJudge(context.Background(), profiles, *preempting)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(3)
	}
	out := bufio.NewWriter(os.Stdout)
	bad := false
	if *info {
		write(out, judge.info(version.Get().GitVersion))
	} else if bad, err = answer(judge, os.Stdin, out); err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(3)
	}
	if err := out.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(3)
	}
	if bad {
		os.Exit(2)
	}
}

// chosen are the profiles of a file, or the default one with these plugins alone.
func chosen(file string, only []string) ([]config.KubeSchedulerProfile, error) {
	if file == "" {
		profile, err := defaultProfile(only)
		if err != nil {
			return nil, err
		}
		return []config.KubeSchedulerProfile{*profile}, nil
	}
	if only != nil {
		return nil, errors.New("-plugins and -config exclude each other: the file says which plugins are enabled")
	}
	return configured(file)
}

// silence turns off klog: plugins log what they find odd in a case, which is the generator's purpose.
func silence() {
	flags := flag.NewFlagSet("klog", flag.PanicOnError)
	klog.InitFlags(flags)
	for name, value := range map[string]string{"logtostderr": "false", "alsologtostderr": "false", "stderrthreshold": "FATAL"} {
		if err := flags.Set(name, value); err != nil {
			panic(err)
		}
	}
	klog.SetOutput(io.Discard)
}

func listed(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// answer judges line by line and reports whether one was not a case. It flushes when no more input is waiting, so that the
// program can also be asked one case at a time.
func answer(judge *judge, in io.Reader, out *bufio.Writer) (bad bool, err error) {
	lines := bufio.NewReaderSize(in, 1<<20)
	for {
		line, err := readLine(lines)
		if len(strings.TrimSpace(string(line))) > 0 {
			var one result
			if asked, problem := readCase(line); problem != nil {
				one, bad = result{ID: asked.ID, Error: problem.Error()}, true
			} else {
				one = judge.judge(asked)
			}
			write(out, one)
		}
		if err == io.EOF {
			return bad, nil
		}
		if err != nil {
			return bad, err
		}
		if lines.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return bad, err
			}
		}
	}
}

func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadBytes('\n')
	if len(line) > maxLine {
		return nil, fmt.Errorf("a line of %d bytes: expected at most %d", len(line), maxLine)
	}
	return line, err
}

func write(out *bufio.Writer, value any) {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(err) // plain maps, strings and integers
	}
}
