// tracing-oslog's wrapper.h includes this name; it uses nothing of it in C.
#pragma once
