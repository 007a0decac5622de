// The pages of Storage.
import type { PageRoute } from "../../router";

export const routes: PageRoute[] = [{ path: "/storage", load: () => import("./index") }];
