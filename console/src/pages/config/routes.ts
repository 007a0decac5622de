// The pages of Configuration.
import type { PageRoute } from "../../router";

export const routes: PageRoute[] = [{ path: "/config", load: () => import("./index") }];
