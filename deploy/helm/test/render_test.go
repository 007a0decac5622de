package test

import (
	"bytes"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write what is made of other files")

const (
	chartDir  = "../rustmq"
	release   = "streams"
	fullname  = "streams-rustmq"
	namespace = "data"
)

// Certificate is cert-manager.io/v1, as far as the chart uses it.
type Certificate struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		SecretName  string   `json:"secretName"`
		CommonName  string   `json:"commonName"`
		URIs        []string `json:"uris"`
		DNSNames    []string `json:"dnsNames"`
		IPAddresses []string `json:"ipAddresses"`
		IsCA        bool     `json:"isCA"`
		Usages      []string `json:"usages"`
		Duration    string   `json:"duration"`
		RenewBefore string   `json:"renewBefore"`
		PrivateKey  struct {
			Algorithm      string `json:"algorithm"`
			Size           int    `json:"size"`
			RotationPolicy string `json:"rotationPolicy"`
		} `json:"privateKey"`
		IssuerRef issuerRef `json:"issuerRef"`
	} `json:"spec"`
}

type issuerRef struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	Group string `json:"group"`
}

// Issuer is cert-manager.io/v1, as far as the chart uses it.
type Issuer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		SelfSigned *struct{} `json:"selfSigned"`
		CA         *struct {
			SecretName string `json:"secretName"`
		} `json:"ca"`
	} `json:"spec"`
}

type secretKey struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

// ServiceMonitor is monitoring.coreos.com/v1, as far as the chart uses it.
type ServiceMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		NamespaceSelector struct {
			MatchNames []string `json:"matchNames"`
		} `json:"namespaceSelector"`
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []struct {
			Port        string `json:"port"`
			Path        string `json:"path"`
			Interval    string `json:"interval"`
			Scheme      string `json:"scheme"`
			Relabelings []struct {
				SourceLabels []string `json:"sourceLabels"`
				TargetLabel  string   `json:"targetLabel"`
				Replacement  string   `json:"replacement"`
			} `json:"relabelings"`
			TLSConfig struct {
				ServerName string `json:"serverName"`
				CA         struct {
					Secret secretKey `json:"secret"`
				} `json:"ca"`
			} `json:"tlsConfig"`
			Authorization struct {
				Credentials secretKey `json:"credentials"`
			} `json:"authorization"`
		} `json:"endpoints"`
	} `json:"spec"`
}

// PrometheusRule is monitoring.coreos.com/v1, as far as the chart uses it.
type PrometheusRule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []struct {
				Alert       string            `json:"alert"`
				Expr        string            `json:"expr"`
				For         string            `json:"for"`
				Labels      map[string]string `json:"labels"`
				Annotations map[string]string `json:"annotations"`
			} `json:"rules"`
		} `json:"groups"`
	} `json:"spec"`
}

// rendered is what the chart makes of some values, decoded strictly: a field that a type lacks
// is an error.
type rendered struct {
	sets         []*appsv1.StatefulSet
	services     []*corev1.Service
	maps         []*corev1.ConfigMap
	accounts     []*corev1.ServiceAccount
	pods         []*corev1.Pod // of helm test
	budgets      []*policyv1.PodDisruptionBudget
	policies     []*networkingv1.NetworkPolicy
	certificates []*Certificate
	issuers      []*Issuer
	monitors     []*ServiceMonitor
	rules        []*PrometheusRule
	names        []string // kind/name of all
	notes        string
}

func load(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.LoadDir(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// kubernetes is the oldest version that the chart takes.
func kubernetes(t *testing.T) *common.Capabilities {
	t.Helper()
	version, err := common.ParseKubeVersion("v1.28.0")
	if err != nil {
		t.Fatal(err)
	}
	return &common.Capabilities{KubeVersion: *version, APIVersions: common.DefaultVersionSet}
}

// try renders the chart with values, in YAML.
func try(t *testing.T, values string) (*rendered, error) {
	t.Helper()
	c := load(t)
	parsed, err := common.ReadValues([]byte(values))
	if err != nil {
		t.Fatal(err)
	}
	all, err := util.ToRenderValues(c, parsed, common.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}, kubernetes(t))
	if err != nil {
		return nil, err
	}
	files, err := engine.Engine{Strict: true}.Render(c, all)
	if err != nil {
		return nil, err
	}
	r := &rendered{}
	for name, text := range files {
		switch {
		case strings.HasSuffix(name, "/NOTES.txt"):
			r.notes = text
		case strings.HasSuffix(name, ".yaml"):
			for document := range strings.SplitSeq("\n"+text, "\n---") {
				if err := r.add([]byte(document)); err != nil {
					return nil, fmt.Errorf("%s: %w:\n%s", name, err, document)
				}
			}
		}
	}
	slices.Sort(r.names)
	return r, nil
}

func render(t *testing.T, values string) *rendered {
	t.Helper()
	r, err := try(t, values)
	if err != nil {
		t.Fatalf("values\n%s\n%v", values, err)
	}
	return r
}

// add decodes one object.
func (r *rendered) add(document []byte) error {
	var head struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
	}
	if err := yaml.Unmarshal(document, &head); err != nil || head.Kind == "" {
		if len(bytes.TrimSpace(document)) > 0 && err == nil && !onlyComments(document) {
			return fmt.Errorf("no object")
		}
		return err
	}
	if head.Namespace != namespace {
		return fmt.Errorf("%s %s is in namespace %q", head.Kind, head.Name, head.Namespace)
	}
	if len(head.Name) > 63 {
		return fmt.Errorf("%s has a long name: %s", head.Kind, head.Name)
	}
	r.names = append(r.names, head.Kind+"/"+head.Name)
	switch head.APIVersion + " " + head.Kind {
	case "apps/v1 StatefulSet":
		return into(&r.sets, document)
	case "v1 Service":
		return into(&r.services, document)
	case "v1 ConfigMap":
		return into(&r.maps, document)
	case "v1 ServiceAccount":
		return into(&r.accounts, document)
	case "v1 Pod":
		return into(&r.pods, document)
	case "policy/v1 PodDisruptionBudget":
		return into(&r.budgets, document)
	case "networking.k8s.io/v1 NetworkPolicy":
		return into(&r.policies, document)
	case "cert-manager.io/v1 Certificate":
		return into(&r.certificates, document)
	case "cert-manager.io/v1 Issuer":
		return into(&r.issuers, document)
	case "monitoring.coreos.com/v1 ServiceMonitor":
		return into(&r.monitors, document)
	case "monitoring.coreos.com/v1 PrometheusRule":
		return into(&r.rules, document)
	}
	return fmt.Errorf("nobody knows %s %s", head.APIVersion, head.Kind)
}

func onlyComments(document []byte) bool {
	for line := range strings.SplitSeq(string(document), "\n") {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return false
		}
	}
	return true
}

func into[T any](list *[]*T, document []byte) error {
	v := new(T)
	if err := yaml.UnmarshalStrict(document, v); err != nil {
		return err
	}
	*list = append(*list, v)
	return nil
}

// files are the configurations of all nodes, by the name of their pod.
func (r *rendered) files() map[string]string {
	all := map[string]string{}
	for _, s := range r.sets {
		for _, m := range r.maps {
			if m.Name != configOf(s) {
				continue
			}
			for name, text := range m.Data {
				id := strings.TrimSuffix(strings.TrimPrefix(name, "node-"), ".toml")
				all[s.Name+"-"+id] = text
			}
		}
	}
	return all
}

// configOf is the ConfigMap that a StatefulSet mounts as its configuration.
func configOf(s *appsv1.StatefulSet) string {
	for _, v := range s.Spec.Template.Spec.Volumes {
		if v.Name == "config" && v.ConfigMap != nil {
			return v.ConfigMap.Name
		}
	}
	return ""
}

// podsOf are the names of a StatefulSet's pods with their numbers, as Kubernetes gives them.
func podsOf(s *appsv1.StatefulSet) map[string]int32 {
	all := map[string]int32{}
	for i := range *s.Spec.Replicas {
		id := s.Spec.Ordinals.Start + i
		all[fmt.Sprintf("%s-%d", s.Name, id)] = id
	}
	return all
}
