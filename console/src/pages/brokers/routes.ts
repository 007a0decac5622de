// The pages of Brokers.
import type { PageRoute } from "../../router";

export const routes: PageRoute[] = [{ path: "/brokers", load: () => import("./index") }];
