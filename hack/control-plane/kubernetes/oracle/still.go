package main

import (
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/informers/apps"
	"k8s.io/client-go/informers/core"
	"k8s.io/client-go/informers/internalinterfaces"
	"k8s.io/client-go/informers/policy"
	"k8s.io/client-go/informers/resource"
	"k8s.io/client-go/informers/scheduling"
	"k8s.io/client-go/informers/storage"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// stillFactory gives informers that nobody runs: their stores are filled by hand and their handlers called at once. So a case
// costs no goroutine, no wait for a sync, and one framework serves all cases.
type stillFactory struct {
	informers.SharedInformerFactory
	client clientset.Interface
	made   map[reflect.Type]*stillInformer
}

func newStillFactory(client clientset.Interface) *stillFactory {
	return &stillFactory{
		SharedInformerFactory: informers.NewSharedInformerFactory(client, 0),
		client:                client,
		made:                  map[reflect.Type]*stillInformer{},
	}
}

func (f *stillFactory) Core() core.Interface             { return core.New(f, "", nil) }
func (f *stillFactory) Apps() apps.Interface             { return apps.New(f, "", nil) }
func (f *stillFactory) Policy() policy.Interface         { return policy.New(f, "", nil) }
func (f *stillFactory) Resource() resource.Interface     { return resource.New(f, "", nil) }
func (f *stillFactory) Scheduling() scheduling.Interface { return scheduling.New(f, "", nil) }
func (f *stillFactory) Storage() storage.Interface       { return storage.New(f, "", nil) }

func (f *stillFactory) InformerFor(object runtime.Object, build internalinterfaces.NewInformerFunc) cache.SharedIndexInformer {
	kind := reflect.TypeOf(object)
	if _, known := f.made[kind]; !known {
		f.made[kind] = &stillInformer{SharedIndexInformer: build(f.client, 0)}
	}
	return f.made[kind]
}

// add puts an object where the plugins look for its kind; null and kinds that no plugin asked for are dropped.
func (f *stillFactory) add(object runtime.Object) {
	informer, wanted := f.made[reflect.TypeOf(object)]
	if !wanted || reflect.ValueOf(object).IsNil() {
		return
	}
	if accessor, err := meta.Accessor(object); err == nil && accessor.GetResourceVersion() == "" {
		accessor.SetResourceVersion("1") // assume caches compare them as numbers
	}
	if err := informer.GetIndexer().Add(object); err != nil {
		panic(err) // only an index function fails, and these are upstream's
	}
	for _, handler := range informer.handlers {
		handler.OnAdd(object, false)
	}
}

// clear takes all objects away again.
func (f *stillFactory) clear() {
	for _, informer := range f.made {
		for _, object := range informer.GetIndexer().List() {
			if err := informer.GetIndexer().Delete(object); err != nil {
				panic(err)
			}
			for _, handler := range informer.handlers {
				handler.OnDelete(object)
			}
		}
	}
}

// stillInformer is upstream's informer of a kind, with its indexes, never started.
type stillInformer struct {
	cache.SharedIndexInformer
	handlers []cache.ResourceEventHandler
}

func (i *stillInformer) AddEventHandler(handler cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	i.handlers = append(i.handlers, handler)
	return synced{}, nil
}

func (i *stillInformer) AddEventHandlerWithResyncPeriod(handler cache.ResourceEventHandler, _ time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	return i.AddEventHandler(handler)
}

func (i *stillInformer) AddEventHandlerWithOptions(handler cache.ResourceEventHandler, _ cache.HandlerOptions) (cache.ResourceEventHandlerRegistration, error) {
	return i.AddEventHandler(handler)
}

func (i *stillInformer) HasSynced() bool                     { return true }
func (i *stillInformer) HasSyncedChecker() cache.DoneChecker { return synced{} }

var done = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

type synced struct{}

func (synced) HasSynced() bool                     { return true }
func (synced) HasSyncedChecker() cache.DoneChecker { return synced{} }
func (synced) Name() string                        { return "still" }
func (synced) Done() <-chan struct{}               { return done }
