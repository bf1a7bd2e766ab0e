import type { RouteObject } from "react-router";

import { lazyPage } from "../../app/lazyPage";

export const endpointsRoutes: RouteObject[] = [
  { path: "endpoints", lazy: lazyPage(() => import("./index")) },
  { path: "endpoints/:endpointId", lazy: lazyPage(() => import("./endpoint")) },
];
